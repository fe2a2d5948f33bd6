"""The options with which the benchmark runs each solver.

The rates fall as in the solvers of benchmark_bilevel, by the same powers of the step.
"""

from typing import Any

import jax
import optax

from ruas_jax import bilevel

INNER_STEPS = LINEAR_STEPS = 10
Number = float | jax.Array


def solver_options(name: str, inner: Number, outer: Number, *, period: int) -> dict[str, Any]:
  """Options of `make_solver`.

  Args:
    name: name of the solver.
    inner: first step size of the weights, also for linear systems.
    outer: first step size of alpha.
    period: number of steps between those on all examples, for the solvers that take some.
  """
  falling = bilevel.power_schedule
  series = {"linear": inner, "terms": LINEAR_STEPS}
  momenta = {"inner_momentum": falling(0.5, 2 / 3), "outer_momentum": falling(0.5, 2 / 3)}
  options = {
    "nested": {
      "estimator": "cg",
      "estimator_options": {"iterations": LINEAR_STEPS, "tolerance": 0.0},
      "inner": optax.sgd(inner),
      "inner_steps": INNER_STEPS,
      "outer": outer,
    },
    "amigo": {"inner": inner, "inner_steps": INNER_STEPS, "linear_steps": LINEAR_STEPS, "outer": outer},
    "stocbio": {"inner": inner, "inner_steps": INNER_STEPS, "outer": outer, **series},
    "soba": {"inner": falling(inner, 0.5), "outer": falling(outer, 0.5)},
    "fsla": {"inner": falling(inner, 0.5), "momentum": falling(inner, 0.5), "outer": falling(outer, 0.5)},
    "ttsa": {"inner": falling(inner, 0.4), "outer": falling(outer, 0.6), **series},
    "saba": {"inner": inner, "outer": outer},
    "srba": {"inner": inner, "period": period, "outer": outer},
    "sustain": {"inner": falling(inner, 1 / 3), "outer": falling(outer, 1 / 3), **series, **momenta},
    "mrbo": {"inner": falling(inner, 1 / 3), "outer": falling(outer, 1 / 3), **series, **momenta},
    "f2sa": {
      "inner": falling(inner, 4 / 7),
      "penalised": falling(inner, 5 / 7),
      "inner_steps": INNER_STEPS,
      "penalty": falling(1.0, -1 / 7),
      "outer": falling(outer, 4 / 7),
    },
    "bome": {"inner": inner, "inner_steps": INNER_STEPS, "weights_rate": inner, "outer": outer},
    "iaptt": {"inner": inner, "inner_steps": INNER_STEPS, "initial": inner, "outer": outer},
    "bda": {"inner": inner, "inner_steps": INNER_STEPS, "outer": outer, "warm_start": True},
  }
  return options[name]


def oracle_calls(name: str, diagnostics: dict[str, jax.Array], batch_size: int) -> jax.Array:
  """Oracle calls of a step: gradients of examples, and products of examples' second derivatives with a vector."""
  counted = ("inner_gradients", "outer_gradients", "hessian_products", "cross_products")
  if name == "nested":  # cg by the estimator, which does not count: the last product also gives the residual
    return batch_size * (INNER_STEPS + 1 + (LINEAR_STEPS + 1) + 1)
  return sum(diagnostics[count] for count in counted)
