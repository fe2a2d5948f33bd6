"""The built-in set, small: what `ruas demo` runs.

    ruas search --config tiny --workdir runs/tiny
    ruas train --config tiny --genotype runs/tiny/genotype.json --workdir runs/tiny_model

Differs from the paper in its data (photographs darkened by a physical model), its size (96x96 crops, few steps) and in the
choices that `configs/lol.py` makes.
"""

import dataclasses

from ruas_jax.config import Config, load_config


def get_config() -> Config:
  base = load_config("lol")
  return dataclasses.replace(
    base,
    data=dataclasses.replace(base.data, train="builtin", crop=64),
    search=dataclasses.replace(base.search, steps=150),
    training=dataclasses.replace(base.training, steps=400),
  )
