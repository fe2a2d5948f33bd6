"""The solvers reach the solutions that are known in closed form. Step sizes come from the problems' constants."""

import numpy as np
import optax
import pytest
from bilevel_quadratic import quadratic

from ruas_jax.bilevel import SOLVERS, solve

pytestmark = pytest.mark.usefixtures("x64_module")

QUADRATIC = quadratic()
RATE = 2 / (QUADRATIC.smoothness + QUADRATIC.convexity)  # each inner step divides the error by 3
SCALE = 1 / QUADRATIC.smoothness  # of Neumann's series: each term divides the error by 2
OUTER = 1 / QUADRATIC.outer_smoothness

# With single steps on the weights, alpha must be slower than they are.
SLOW = {"inner": SCALE, "outer": OUTER / 4}
EXACT = {
  "nested": {"inner": optax.sgd(RATE), "inner_steps": 24, "outer": OUTER},
  "amigo": {"inner": RATE, "inner_steps": 2, "linear_steps": 2, "outer": OUTER / 2},
  "stocbio": {"inner": RATE, "inner_steps": 2, "linear": SCALE, "terms": 32, "outer": OUTER / 2},
  "soba": SLOW,
  "fsla": {**SLOW, "momentum": 0.5},
  "ttsa": {**SLOW, "linear": SCALE, "terms": 32, "truncation": "full"},
  "saba": SLOW,
  "srba": {**SLOW, "period": 4},
  "sustain": {
    **SLOW,
    "linear": SCALE,
    "terms": 32,
    "truncation": "full",
    "inner_momentum": 0.5,
    "outer_momentum": 0.5,
  },
  "mrbo": {**SLOW, "linear": SCALE, "terms": 32, "inner_momentum": 0.5, "outer_momentum": 0.5},
}
"""Options with which a method reaches the solution on full batches."""


def errors(found, known):
  return float(np.abs(np.asarray(found) - known).max())


def run(method, problem=QUADRATIC, steps=1000, **options):
  return solve(
    problem.problem, *problem.start, problem.train, problem.validation, method=method, steps=steps, every=500, **options
  )


@pytest.mark.parametrize("method", EXACT)
def test_full_batches_reach_the_solution(method):
  found = run(method, **EXACT[method])
  assert errors(found.alpha, QUADRATIC.alpha) < 1e-8
  assert errors(found.weights, QUADRATIC.weights) < 1e-8


def test_every_method_is_tested():
  assert list(EXACT) == list(SOLVERS)
