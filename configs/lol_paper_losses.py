"""The paper's losses on LOL, in a size for two cores: what docs/hypergradients.md studies.

    ruas search --config lol_paper_losses --data.train LOL/train/low --workdir runs/found

Differs from the paper, whose numbers are in `lol_paper.py`, in
- illumination: one for all three colours, and u = y / t^0.75 (LIME's exponent); with t alone images come out white,
- the warm start is t_hat_0 at every stage: with eq. 1's update some architectures stayed at ten times the training loss
  of others,
- crops of 128x128 and fewer steps with a larger rate for alpha, to fit a small machine,
- no weight decay of alpha: our losses are means over pixels, beside whose gradients the paper's 1e-3 holds the noise
  removal module's alpha at zero (its largest share was 0.147 after 900 steps, uniform being 0.143),
- Adam at 3e-3 in training, where the paper is silent.
"""

from ruas_jax.config import Config, TrainingOptions
from ruas_jax.data.options import DataOptions
from ruas_jax.lowlight.loss_options import LossOptions
from ruas_jax.lowlight.options import IlluminationOptions, NetworkOptions
from ruas_jax.lowlight.search_options import RUASSearchOptions
from ruas_jax.optimizers import OptimizerOptions


def get_config() -> Config:
  adam = OptimizerOptions("adam", learning_rate=3e-3)
  return Config(
    network=NetworkOptions(illumination=IlluminationOptions(one_illumination=True, exponent=0.75, warm_start="fixed")),
    loss=LossOptions(eta_t=0.01, eta_n=0.1),
    data=DataOptions(crop=128),
    search=RUASSearchOptions(
      steps=900,
      alpha_optimizer=OptimizerOptions("adam", learning_rate=3e-3, momentum=0.5),
    ),
    training=TrainingOptions(steps=1500, illumination_optimizer=adam, denoising_optimizer=adam),
  )
