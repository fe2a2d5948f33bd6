"""A whole search by `configs/lol.py` on synthetic images, including compilation: the time of `ruas_jax.search`."""

import time

import numpy as np

from benchmarks.speed.accelerator.part import Figures, Part
from benchmarks.speed.accelerator.search_round import lol_config
from benchmarks.speed.search_step import dark_images
from ruas_jax.config import Config
from ruas_jax.engine.records import losses_of
from ruas_jax.experiments.search import search


def measure(part: Part) -> None:
  config = lol_config(part.quick)
  if part.quick:
    config = config.with_overrides({"search.steps": 4})
  part.measure(
    {"rounds": config.search.steps, "crop": config.data.crop}, lambda: _search(config, 1 if part.quick else 2)
  )


def _search(config: Config, times: int) -> Figures:
  """Seconds of each run. The second one finds the programs that the first one compiled."""
  images = [dark_images(config.data.crop, seed) for seed in (0, 1)]
  seconds = []
  for _ in range(times):
    start = time.perf_counter()
    found = search(config, train_images=images[0], val_images=images[1])
    seconds.append(time.perf_counter() - start)
  losses = [losses_of(record) for record in found.metrics]
  return {
    "seconds": seconds,
    "genotype": str(found.genotype),
    "finite": bool(np.isfinite([list(values.values()) for values in losses]).all()),
    "last_losses": losses[-1],
  }
