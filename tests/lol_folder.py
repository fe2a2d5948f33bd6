"""A folder of LOL's shape for the benchmarks' tests: `train/low`, `dev/{low,high}`, `val/{low,high}`."""

import pathlib

import numpy as np
import tiny_problem

PAIRS = 3


def write_lol(root: pathlib.Path) -> pathlib.Path:
  """Pairs of 48x40 pixels, `0.png` and on, in every part."""
  random = np.random.default_rng(0)
  for part in ("train", "dev", "val"):
    highs = [random.integers(60, 250, (5, 6, 3)).repeat(8, 0).repeat(8, 1) for _ in range(PAIRS)]
    lows = [high * random.uniform(0.05, 0.2) + random.normal(0, 1, high.shape) for high in highs]
    for name, images in {"low": lows, "high": highs}.items():
      tiny_problem.write_images(root / part / name, [image.clip(0, 255).astype(np.uint8) for image in images])
  return root
