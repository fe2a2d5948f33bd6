r"""Photographs of all kinds: search and training on well-lit ones that a physical model has darkened.

    ruas search --config general --data.train darkened:PHOTOGRAPHS --workdir runs/general
    ruas train --config general --data.train darkened:PHOTOGRAPHS --genotype runs/general/genotype.json \
      --workdir runs/general_model

The bundled weights and their figures: `python -m benchmarks.paper.general`, benchmarks/results/general.json. The recipe
is that of `lol.py`, apart from
- the exposure to reach, 0.33: the well-lit photographs that it learns from have means from 0.31 to 0.55, and such
  are to stay as they are,
- no wish for colours that are alike: a sunset has its own.
Only the darkened images are seen.
"""

import dataclasses

from ruas_jax.config import Config, load_config


def get_config() -> Config:
  config = load_config("lol")
  return dataclasses.replace(config, loss=dataclasses.replace(config.loss, exposure=0.33, colour_weight=0.0))
