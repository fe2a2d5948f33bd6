"""MIT-Adobe FiveK with the paper's numbers, where the paper gives them (section 4.1): `lol_paper.py` with other data.

    ruas search --config fivek_paper --data.train FIVEK/train --workdir runs/found
    ruas train --config fivek_paper --data.train FIVEK/train --genotype runs/found/genotype.json --workdir runs/model

Data: 500 underexposed photographs from a copy of FiveK in FIVEK/train; 20 epochs of 500 rounds. The paper names no
other difference from LOL than the images, so this configuration has none either.
"""

from ruas_jax.config import Config, load_config


def get_config() -> Config:
  return load_config("lol_paper").with_overrides({"data.train": "FIVEK/train", "search.steps": 20 * 500})
