"""Statistics of a table: how far the noise between seeds hides the differences between architectures."""

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import kendalltau

_DRAWS = 20


class Noise(NamedTuple):
  """Attributes:
  noise: standard deviation of one training's metric over seeds of the same architecture, pooled over architectures.
  spread: standard deviation over architectures, of one training each, without the part that the noise adds.
  ratio: noise / spread.
  ceiling: Kendall's tau that a score would have that ranked the architectures by their true quality.
  """

  noise: float
  spread: float
  ratio: float
  ceiling: float


def measure_noise(values: np.ndarray) -> Noise:
  """The noise of a metric `[seeds, architectures]`, NaN where an architecture was not trained with a seed."""
  counts = np.sum(np.isfinite(values), axis=0)
  several = values[:, counts > 1]
  degrees = counts[counts > 1] - 1
  squares = np.nansum((several - np.nanmean(several, axis=0)) ** 2, axis=0)
  noise = float(np.sqrt(squares.sum() / degrees.sum()))
  first = values[0][np.isfinite(values[0])]
  spread = float(np.sqrt(max(np.var(first, ddof=1) - noise**2, 0.0)))
  return Noise(noise, spread, noise / spread if spread else np.inf, ceiling_of(values, noise))


def ceiling_of(values: np.ndarray, noise: float) -> float:
  """Kendall's tau between the true quality of the architectures and a table of it with noise, by simulation.

  The means over seeds, shrunk towards their mean until their variance is that without noise, stand for the true
  quality. Normal noise is added to them, less for an architecture with several seeds.
  """
  counts = np.sum(np.isfinite(values), axis=0)
  means, deviations = np.nanmean(values, axis=0), noise / np.sqrt(counts)
  total = np.var(means, ddof=1)
  share = np.sqrt(max(1 - np.mean(deviations**2) / total, 0.0)) if total else 0.0
  true = means.mean() + share * (means - means.mean())
  rng = np.random.default_rng(0)
  return float(np.mean([kendall(true, true + deviations * rng.normal(size=true.size)) for _ in range(_DRAWS)]))


def kendall(first: np.ndarray, second: np.ndarray) -> float:
  """Kendall's tau-b of two columns."""
  result: Any = kendalltau(first, second)
  return float(result.statistic)


def percentile(values: np.ndarray, value: float) -> float:
  """Share of `values` below `value`, in percent; equal ones count half."""
  return float(100 * (np.mean(values < value) + np.mean(values == value) / 2))
