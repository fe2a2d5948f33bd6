"""A small experiment on the built-in set, for `ruas demo`: three minutes on two cores.

    ruas search --config tiny --workdir runs/tiny
    ruas train --config tiny --genotype runs/tiny/genotype.json --workdir runs/tiny_model

Differences from `lol.py`: the data (photographs darkened by a physical model), the size (64x64 crops and fewer steps),
and one illumination for all three colours. With three illuminations, six photographs are too few to avoid a colour
cast.
"""

from ruas_jax.config import Config, load_config


def get_config() -> Config:
  return load_config("lol").with_overrides(
    {
      "network.illumination.one_illumination": True,
      "data.train": "builtin",
      "data.crop": 64,
      "search.steps": 150,
      "training.steps": 400,
    }
  )
