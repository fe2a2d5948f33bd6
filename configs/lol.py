"""LOL: search and training on its low-light images only, on two cores in six minutes.

    ruas search --config lol --data.train LOL/train/low --workdir runs/lol
    ruas train --config lol --genotype runs/lol/genotype.json --data.train LOL/train/low --workdir runs/lol_model
    ruas evaluate --low LOL/dev/low --high LOL/dev/high --checkpoint runs/lol_model --json lol_dev.json

Measurements: benchmarks/results/lol.json, by `python -m benchmarks.paper.lol`. Differences from the paper, whose
numbers are in `lol_paper.py`:
- Illumination: u starts as a curve of y, whose strength is computed from the image's mean, and a bright image does not
  change. The curve is that of linear light, which a longer exposure multiplies. All stages share their weights.
- Its loss: a target exposure, so that training has a minimum (with the paper's loss, images get brighter without end);
  and a colour constancy term.
- Noise removal: it is guided by the illumination, and trained by Noise2Noise between the halves of an image, which
  separates noise from detail. Noisier images are smoothed more, and colour more than brightness. All stages share their
  weights, so that seven channels fit into 3,500 parameters.
- beta: L_n is divided by the noise, which is a few hundredths.
- Crops of 128x128, and fewer steps with a larger learning rate for alpha, for a small machine.
- No weight decay of alpha: our losses are means over pixels. Their gradients are so small that the paper's 1e-3 keeps
  the noise removal module's alpha at zero (`lol_paper_losses.py`).
- Adam for the weights in the search: with the exposure loss, SGD at the paper's rate makes all images black.
- Adam at 3e-3 in training, decreasing to zero; the paper does not say.
No normal-light image is used. The recipe itself was selected on LOL's development pairs.
"""

from ruas_jax.config import Config, TrainingOptions
from ruas_jax.data.options import DataOptions
from ruas_jax.lowlight.loss_options import ExposureOptions, LossOptions, PairsOptions
from ruas_jax.lowlight.options import DenoisingOptions, IlluminationOptions, NetworkOptions
from ruas_jax.lowlight.search_options import RUASSearchOptions
from ruas_jax.optimizers import OptimizerOptions


def get_config() -> Config:
  adam = OptimizerOptions("adam", learning_rate=3e-3)
  return Config(
    network=NetworkOptions(
      illumination=IlluminationOptions(
        adaptive=True, curve="exponential", light="linear", region=1, warm_start="fixed", share_weights=True
      ),
      denoising=DenoisingOptions(channels=7, guided=True, share_weights=True),
    ),
    loss=LossOptions(
      illumination="exposure",
      exposure=ExposureOptions(target=0.45, weight=5.0, colour_weight=3.0),
      eta_t=0.0,
      denoising="pairs",
      pairs=PairsOptions(per_noise=True),
      eta_n=2.4,
      chroma=4.0,
      beta=0.03,
    ),
    data=DataOptions(crop=128),
    search=RUASSearchOptions(
      steps=300,
      parameters=3500,
      weight_optimizer=OptimizerOptions("adam", learning_rate=1e-3),
      alpha_optimizer=OptimizerOptions("adam", learning_rate=1e-2, momentum=0.5),
    ),
    training=TrainingOptions(steps=1500, decay=True, illumination_optimizer=adam, denoising_optimizer=adam),
  )
