"""The thresholds of the study, and the numbers that are compared with them."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ruas_jax.engine.report import Bar
from ruas_jax.hypergradient_study.measure import Case, Laboratory, Row

DECADE = (1e-3, 1e-2)
"""Range of epsilon, up to DARTS' 0.01, in which the order of the finite difference is fitted."""

_EXACT = ("unrolled", "mixed_mode")
_CHEAP = ("finite_difference", "first_order")

BARS = {
  "exact_over_finite_difference_time": Bar(
    1.1, "at_most", "exact one-step takes at most 1.1 times as long as finite_difference"
  ),
  "exact_over_first_order_time": Bar(2.0, "at_most", "exact one-step takes at most 2.0 times as long as first_order"),
  "unrolled_long_over_one_memory": Bar(
    1.5, "at_most", "checkpointed unrolling of T=16 takes at most 1.5 times the temporary memory of T=1"
  ),
  "forward_long_over_two_memory": Bar(1.1, "at_most", "the memory of forward mode does not grow with T, for T from 2"),
  "finite_difference_slope_error_smoothed": Bar(
    0.1, "at_most", "on smoothed losses the finite difference's error falls with the square of epsilon"
  ),
  "finite_difference_least_error_smoothed": Bar(
    1e-6, "at_most", "on smoothed losses the finite difference converges; share of the implicit term"
  ),
  "finite_difference_least_error_raw": Bar(
    1e-3, "at_least", "on raw losses it does not converge at practical epsilons; share of the implicit term"
  ),
}


def summarize_epsilon(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
  """Summary of the epsilon sweep, by losses and dtype. `slope`: order of the error over `DECADE`. `least_in_decade`:
  smallest error there. `least`: smallest error, and `at`: its epsilon. Errors are shares of the implicit term."""
  curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
  for row in rows:
    if row["sweep"] == "epsilon":
      curves.setdefault((row["losses"], row["dtype"]), []).append((row["epsilon"], row["implicit_relative_error"]))
  return {" ".join(name): _summary(np.asarray(curve)) for name, curve in curves.items()}


def _summary(curve):
  epsilons, errors = curve.T
  inside = (epsilons >= DECADE[0]) & (epsilons <= DECADE[1])
  best = np.nanargmin(errors)
  return {
    "slope": np.polyfit(np.log(epsilons[inside]), np.log(errors[inside]), 1)[0],
    "least_in_decade": errors[inside].min(),
    "least": errors[best],
    "at": epsilons[best],
  }


def measure_costs(laboratory: Laboratory, *, longest: int, rounds: int) -> dict[str, float]:
  """Costs of the float32 programs. `X_milliseconds`: time of one step. `X_over_Y_time`: median over rounds in which
  they alternate. `..._memory`: ratio of the temporary bytes of two programs, if the compiler counts them."""
  cases = {name: Case("bars", name) for name in (*_EXACT, *_CHEAP)}
  taken = laboratory.times([*cases.values()], rounds=rounds + 1)
  seconds = {name: times[1:] for name, times in zip(cases, taken, strict=True)}  # without the first round, a warm-up
  costs = {f"{name}_milliseconds": 1e3 * float(np.median(times)) for name, times in seconds.items()}
  for exact, cheap in itertools.product(_EXACT, _CHEAP):
    costs[f"{exact}_over_{cheap}_time"] = float(np.median(seconds[exact] / seconds[cheap]))
  for name, words, short in (("unrolled", "one", 1), ("forward", "two", 2)):
    most, least = (laboratory.program(Case("bars", name, steps=steps)).temporary_bytes for steps in (longest, short))
    if most and least:
      costs[f"{name}_long_over_{words}_memory"] = most / least
  return costs


def against_bars(rows: Sequence[Row], costs: dict[str, float]) -> dict[str, tuple[float, Bar]]:
  """`(measured number, threshold)` by name. The time of the exact hypergradient is that of the faster of its
  methods."""
  curves = summarize_epsilon(rows)
  smoothed, raw = curves["smoothed float64"], curves["raw float64"]
  measured = {
    f"exact_over_{cheap}_time": min(costs[f"{exact}_over_{cheap}_time"] for exact in _EXACT) for cheap in _CHEAP
  }
  measured |= {name: cost for name, cost in costs.items() if name.endswith("_memory")}
  measured |= {
    "finite_difference_slope_error_smoothed": abs(smoothed["slope"] - 2),
    "finite_difference_least_error_smoothed": smoothed["least"],
    "finite_difference_least_error_raw": raw["least_in_decade"],
  }
  return {name: (value, BARS[name]) for name, value in measured.items()}
