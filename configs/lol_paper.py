"""LOL with the paper's numbers, where the paper gives them (section 4.1). Equations and losses are the default options.

    ruas search --config lol_paper --data.tfds-dir TFDS --workdir runs/found
    ruas train --config lol_paper --data.tfds-dir TFDS --genotype runs/found/genotype.json --workdir runs/model

Data: a random 689/100 split of all pairs, as in the paper (`tfds:lol/paper`), from a copy of LOL in
TFDS/downloads/manual. From the paper: batch 1, 20 epochs of 689 rounds (without validation images, half of the 689 are
used for validation), alpha by Adam at 3e-4 with momenta (0.5, 0.999) and weight decay 1e-3. From the released code,
where the paper does not say: crops of 320x320, SGD at 0.005 with momentum 0.9 for the weights in the search, 800 steps
of training. From neither: the weights of the losses, and Adam at 3e-3 in training.
"""

from ruas_jax.config import Config, TrainingOptions
from ruas_jax.data.options import DataOptions
from ruas_jax.lowlight.search_options import RUASSearchOptions


def get_config() -> Config:
  return Config(
    data=DataOptions(train="tfds:lol/paper:train", crop=320),
    search=RUASSearchOptions(steps=20 * 689),
    training=TrainingOptions(steps=800),
  )
