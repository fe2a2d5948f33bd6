"""Rules that end a search early, from its diagnostics."""

from collections.abc import Sequence

import numpy as np

from ruas_jax.nas.methods import Stop
from ruas_jax.nas.options import DiagnosticsOptions

MEASURED: dict[Stop, str] = {
  "eigenvalue": "_hessian_largest",
  "skips": "_skips",
  "gradient_match": "_gradient_match",
}
"""The metric of every player that a rule looks at."""


def is_time(rule: Stop, options: DiagnosticsOptions, past: Sequence[float]) -> bool:
  """Whether to stop, by all measurements of the rule's metric for one player, the newest last."""
  if rule == "eigenvalue":
    return rises_fast(past, window=options.window, threshold=options.threshold)
  if rule == "skips":
    return past[-1] >= options.skips
  return len(past) >= options.window and bool(np.mean(past[-options.window :]) < options.match)


def rises_fast(eigenvalues: Sequence[float], *, window: int, threshold: float) -> bool:
  """Whether the largest eigenvalue grows fast, by the rule of RobustDARTS (Zela et al. 2020, section 4.3).

  It does when the mean of `window` measurements ago is smaller than `threshold` times the mean of the last `window`.
  """
  if len(eigenvalues) < 2 * window:
    return False
  now, before = np.mean(eigenvalues[-window:]), np.mean(eigenvalues[-2 * window : -window])
  return bool(now > 0 and before < threshold * now)
