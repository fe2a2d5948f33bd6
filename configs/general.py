r"""Photographs of all kinds: search and training on well-lit photographs that a physical model has darkened.

    ruas search --config general --data.train darkened:PHOTOGRAPHS --workdir runs/general
    ruas train --config general --data.train darkened:PHOTOGRAPHS --genotype runs/general/genotype.json \
      --workdir runs/general_model

The bundled weights and their measurements: `python -m benchmarks.paper.general`, benchmarks/results/general.json. The
recipe is that of `lol.py`, with four differences:
- The target exposure is 0.33. The well-lit training photographs have means from 0.31 to 0.55, and such images should
  not change. It has a larger weight, so that fewer pixels of night photographs are clipped.
- There is no colour constancy term, because the colours of a scene (a sunset) need not be equal on average.
- Noise removal smooths less, because the noise of these photographs is weaker.
- At most 2,500 parameters, because photographs are large, and time counts.
Only the darkened images are used.
"""

from ruas_jax.config import Config, load_config


def get_config() -> Config:
  return load_config("lol").with_overrides(
    {
      "loss.exposure.target": 0.33,
      "loss.exposure.weight": 10.0,
      "loss.exposure.colour_weight": 0.0,
      "loss.eta_n": 1.6,
      "search.parameters": 2500,
    }
  )
