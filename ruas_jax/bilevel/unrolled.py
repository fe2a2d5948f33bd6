"""The exact hypergradient of T unrolled inner steps: reverse mode through the inner optimiser."""

import jax
import optax
from jax import lax

from ruas_jax.bilevel.inner import inner_steps
from ruas_jax.bilevel.problem import Estimator, HypergradientOut


def unrolled(*, inner: optax.GradientTransformation) -> Estimator:
  """`d/d alpha outer_loss(weights_T(alpha), alpha)`, with `weights_T` reached by one update of `inner` per train
  batch."""

  def estimate(problem, alpha, weights, inner_state, train_batches, val_batch, *, key=None):
    del key
    inner_state = lax.stop_gradient(inner_state)

    def outer(alpha):
      reached, state, losses = inner_steps(problem, inner, alpha, weights, inner_state, train_batches)
      return problem.outer_loss(reached, alpha, val_batch), (reached, state, losses)

    (loss, (reached, state, losses)), gradient = jax.value_and_grad(outer, has_aux=True)(alpha)
    return HypergradientOut(loss, gradient, reached, state, {"inner_loss": losses[0]})

  return estimate
