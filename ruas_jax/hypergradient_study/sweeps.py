"""The measurements of the study: lists of cases, one for each sweep."""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from ruas_jax.hypergradient_study.measure import ITSELF, Case

_ONE_STEP = ("unrolled", "mixed_mode", "finite_difference", "first_order")


class Grid(NamedTuple):
  """The extent of the study. An empty field omits its sweep.

  Attributes:
    epsilons: epsilons of the finite difference: norms of the weights' displacement.
    epsilon_dtypes: dtypes of the epsilon sweep.
    horizons: numbers of inner steps T.
    lasts: numbers of steps through which the truncated estimator differentiates.
    longest: number of inner steps of the reference for the horizons and the implicit estimates.
    rates: learning rates of the inner optimiser.
    dtypes: dtypes for the one-step estimators.
    neumann_terms: lengths of the Neumann series, whose scale is the inner rate.
    implicit: the other estimators of the implicit sweep, with their options.
    rounds: number of calls whose median is a time.
  """

  epsilons: tuple[float, ...] = (
    *(1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4),
    *(1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
  )
  epsilon_dtypes: tuple[str, ...] = ("float64", "float32")
  horizons: tuple[int, ...] = (1, 2, 4, 8, 16)
  lasts: tuple[int, ...] = (1, 4)
  longest: int = 16
  rates: tuple[float, ...] = (5e-4, 1.5e-3, 5e-3, 1.5e-2, 5e-2, 0.15, 0.5)
  dtypes: tuple[str, ...] = ("float64", "float32", "bfloat16")
  neumann_terms: tuple[int, ...] = (1, 5, 20)
  implicit: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("cg", {"iterations": 5}),
    ("cg", {"iterations": 20}),
    ("cg", {"iterations": 20, "damping": 0.1}),
    ("nystrom", {"rank": 10, "damping": 0.1}),
    ("evolution", {"samples": 32, "sigma": 0.01}),
  )
  rounds: int = 5


QUICK = Grid(
  epsilons=(1e-6, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2),
  epsilon_dtypes=("float64",),
  horizons=(),
  rates=(),
  dtypes=(),
  neumann_terms=(),
  implicit=(),
)
"""Only the measurements that have a threshold."""


def plan(grid: Grid, rate: float) -> dict[str, list[Case]]:
  """The cases of each sweep that is not empty; `rate` is the learning rate of the problem."""
  sweeps = {
    "epsilon": _epsilon(grid),
    "horizon": _horizon(grid),
    "rate": _rate(grid),
    "dtype": _dtype(grid),
    "implicit": _implicit(grid, rate),
  }
  return {name: [Case(name, **case) for case in cases] for name, cases in sweeps.items() if cases}


def _epsilon(grid):
  return [
    {"estimator": "finite_difference", "losses": losses, "dtype": dtype, "epsilon": epsilon}
    for losses, dtype, epsilon in itertools.product(("raw", "smoothed"), grid.epsilon_dtypes, grid.epsilons)
  ]


def _horizon(grid):
  cases = [
    {"estimator": name, "steps": steps}
    for name, steps in itertools.product(("unrolled", "mixed_mode", "forward"), grid.horizons)
  ]
  cases += [
    {"estimator": "truncated", "options": {"last": last}, "steps": steps}
    for last, steps in itertools.product(grid.lasts, grid.horizons)
    if last < steps
  ]
  if cases:
    cases += [{"estimator": name} for name in ("first_order", "finite_difference")]
  return [case | {"against": grid.longest} for case in cases]


def _rate(grid):
  return [
    {"estimator": name, "dtype": "float64", "rate": rate}
    for name, rate in itertools.product(("first_order", "finite_difference", "unrolled"), grid.rates)
  ]


def _dtype(grid):
  return [
    {"estimator": name, "dtype": dtype, "against": ITSELF} for name, dtype in itertools.product(_ONE_STEP, grid.dtypes)
  ]


def _implicit(grid, rate):
  chosen = [("neumann", {"terms": terms, "scale": rate}) for terms in grid.neumann_terms] + list(grid.implicit)
  return [
    {"estimator": name, "options": options, "steps": grid.longest, "against": grid.longest} for name, options in chosen
  ]
