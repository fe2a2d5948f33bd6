"""The built-in set, small: what `ruas demo` runs, in three minutes on two cores.

    ruas search --config tiny --workdir runs/tiny
    ruas train --config tiny --genotype runs/tiny/genotype.json --workdir runs/tiny_model

Differs from `lol.py` in its data (photographs darkened by a physical model) and its size: 64x64 crops and fewer steps.
It has one illumination for all three colours: from six photographs, three of them learn a cast.
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
