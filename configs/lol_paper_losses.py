"""The paper's losses on LOL, in a size for two cores. It is used in docs/hypergradients.md.

    ruas search --config lol_paper_losses --data.train LOL/train/low --workdir runs/found

Differences from the paper, whose numbers are in `lol_paper.py`:
- Illumination: one for all three colours, and u = y / t^0.75 (LIME's exponent); with t itself the images become white.
- The warm start is t_hat_0 at every stage. With eq. 1's update, the training loss of some architectures stayed at ten
  times that of others.
- Crops of 128x128 and fewer steps with a larger learning rate for alpha, for a small machine.
- No weight decay of alpha: our losses are means over pixels. Their gradients are so small that the paper's 1e-3 keeps
  the noise removal module's alpha at zero (its largest share was 0.147 after 900 steps; uniform is 0.143).
- Adam at 3e-3 in training; the paper does not say.
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
