"""Hypergradient estimators by name."""

import jax

from ruas_jax.bilevel.constants import split_problem
from ruas_jax.bilevel.evolution import evolution
from ruas_jax.bilevel.finite_difference import finite_difference
from ruas_jax.bilevel.first_order import first_order
from ruas_jax.bilevel.forward import forward
from ruas_jax.bilevel.implicit import cg, neumann, nystrom
from ruas_jax.bilevel.mixed_mode import mixed_mode
from ruas_jax.bilevel.optimizer import Inner, explain_reverse_mode, optimizer_at
from ruas_jax.bilevel.options import check_options
from ruas_jax.bilevel.problem import Estimator
from ruas_jax.bilevel.unrolled import truncated, unrolled

ESTIMATORS = {
  "unrolled": unrolled,
  "mixed_mode": mixed_mode,
  "forward": forward,
  "truncated": truncated,
  "first_order": first_order,
  "finite_difference": finite_difference,
  "cg": cg,
  "neumann": neumann,
  "nystrom": nystrom,
  "evolution": evolution,
}


_THROUGH_OPTIMIZER = ("unrolled", "mixed_mode", "forward", "truncated", "finite_difference", "evolution")


def make_estimator(name: str, *, inner: Inner, steps: int = 1, **options) -> Estimator:
  """The estimator `name` through `steps` updates of the optax optimiser `inner`.

  `inner` may be a function of alpha that returns an optimiser, such as `lambda alpha: optax.sgd(alpha["rate"])`. The
  hypergradient then includes the derivative through the optimiser's numbers.

  Raises:
    ValueError: the name is unknown; or an option has a value that is not allowed; or `inner` is a function of alpha and
      the estimator does not differentiate the optimiser; or (when called) `train_batches` does
      not have the length `steps`, a `key` is missing, or `inner` has a while loop (such as a line search) and the
      estimator needs its derivative in reverse mode.
    TypeError: the estimator does not have an option, or needs one that is missing.
    ProblemError: (when called) a loss does not return one real floating number; or weights or alpha have a complex leaf
      or no floating leaf.
  """
  if name not in ESTIMATORS:
    raise ValueError(f"hypergradient {name!r} is not one of {', '.join(sorted(ESTIMATORS))}")
  if steps < 1:
    raise ValueError(f"hypergradient steps must be at least 1, not {steps}")
  check_options(f"hypergradient {name}", ESTIMATORS[name], options, given=("inner", "steps"))
  if callable(inner) and name not in _THROUGH_OPTIMIZER:
    raise ValueError(
      f"hypergradient {name} does not differentiate the inner optimiser, so `inner` must not be a function of alpha; "
      f"use {', '.join(_THROUGH_OPTIMIZER)}"
    )
  estimator = ESTIMATORS[name](inner=inner, steps=steps, **options)

  def estimate(problem, weights, alpha, inner_state, train_batches, val_batch, *, key=None):
    lengths = {leaf.shape[0] for leaf in jax.tree.leaves(train_batches)}
    if lengths != {steps}:
      raise ValueError(f"train_batches must have a leading axis of length {steps}, not {sorted(lengths)}")
    floating = split_problem(problem, weights, alpha, inner_state)
    problem, weights, alpha, inner_state, merge_weights, merge_state, merge_alpha = floating
    at_floating = estimator
    if callable(inner):  # it receives the whole alpha
      of_floating = lambda alpha: optimizer_at(inner, merge_alpha(alpha))
      at_floating = ESTIMATORS[name](inner=of_floating, steps=steps, **options)
    with explain_reverse_mode(name):
      out = at_floating(problem, weights, alpha, inner_state, train_batches, val_batch, key=key)
    return out._replace(weights=merge_weights(out.weights), inner_state=merge_state(out.inner_state))

  return estimate
