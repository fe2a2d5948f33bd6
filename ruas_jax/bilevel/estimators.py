"""Hypergradient estimators by name."""

import jax
import optax

from ruas_jax.bilevel.first_order import first_order
from ruas_jax.bilevel.problem import Estimator
from ruas_jax.bilevel.unrolled import unrolled

ESTIMATORS = {"unrolled": unrolled, "first_order": first_order}


def make_estimator(name: str, *, inner: optax.GradientTransformation, steps: int = 1, **options) -> Estimator:
  """The estimator `name` through `steps` updates of the optax optimiser `inner`.

  Raises:
    ValueError: the name is unknown, or (when called) `train_batches` is not `steps` long.
    TypeError: an option that this estimator does not have.
  """
  if name not in ESTIMATORS:
    raise ValueError(f"hypergradient {name!r} is not one of {', '.join(sorted(ESTIMATORS))}")
  if steps < 1:
    raise ValueError(f"hypergradient steps must be at least 1, not {steps}")
  estimator = ESTIMATORS[name](inner=inner, **options)

  def estimate(problem, alpha, weights, inner_state, train_batches, val_batch, *, key=None):
    lengths = {leaf.shape[0] for leaf in jax.tree.leaves(train_batches)}
    if lengths != {steps}:
      raise ValueError(f"train_batches need a leading axis of length {steps}, got {sorted(lengths)}")
    return estimator(problem, alpha, weights, inner_state, train_batches, val_batch, key=key)

  return estimate
