"""LOL with the paper's numbers, where it gives them (section 4.1); the dataclass defaults are its equations and losses.

    ruas search --config lol_paper --data.tfds-dir TFDS --workdir runs/found
    ruas train --config lol_paper --data.tfds-dir TFDS --genotype runs/found/genotype.json --workdir runs/model

Data: the paper's kind of split, a seeded 689/100 of all pairs (`tfds:lol/paper`), from your copy of LOL in
TFDS/downloads/manual. Crops of 320x320, batch 1, 20 epochs of 689 rounds; alpha by Adam at 3e-4 with momenta (0.5,
0.999) and weight decay 1e-3. Not in the paper, and ours: the weights of the losses, the optimiser of the weights and
the steps of training.
"""

from ruas_jax.architecture_search.options import SearchOptions
from ruas_jax.config import Config, DataOptions
from ruas_jax.training import TrainingOptions


def get_config() -> Config:
  return Config(
    data=DataOptions(train="tfds:lol/paper:train", crop=320),
    search=SearchOptions(steps=20 * 689),
    training=TrainingOptions(steps=800),
  )
