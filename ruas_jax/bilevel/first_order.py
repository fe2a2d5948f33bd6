"""The first-order estimate: the direct term at the incoming weights, as if the weights did not depend on alpha."""

import jax

from ruas_jax.bilevel.inner import inner_steps
from ruas_jax.bilevel.optimizer import Inner
from ruas_jax.bilevel.problem import Estimator, HypergradientOut


def first_order(*, inner: Inner, steps: int) -> Estimator:
  """`∂ outer_loss(weights, alpha) / ∂ alpha`. The inner steps are taken, but not differentiated."""
  del steps  # it is the number of batches

  def estimate(problem, weights, alpha, inner_state, train_batches, val_batch, *, key=None):
    del key
    loss, gradient = jax.value_and_grad(problem.outer_loss, argnums=1)(weights, alpha, val_batch)
    reached, state, losses = inner_steps(problem, inner, weights, alpha, inner_state, train_batches)
    return HypergradientOut(loss, gradient, reached, state, {"inner_loss": losses[0]})

  return estimate
