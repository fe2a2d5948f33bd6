"""The exact hypergradient of unrolled inner steps in reverse mode, through all steps or through the last few."""

import jax
from jax import lax

from ruas_jax.bilevel.inner import inner_steps
from ruas_jax.bilevel.optimizer import Inner
from ruas_jax.bilevel.problem import Estimator, HypergradientOut


def unrolled(*, inner: Inner, steps: int) -> Estimator:
  """`d/d alpha outer_loss(weights_T(alpha), alpha)`. `weights_T` is the result of one update by `inner` per train
  batch."""
  return truncated(inner=inner, steps=steps, last=steps)


def truncated(*, inner: Inner, steps: int, last: int) -> Estimator:
  """`unrolled`, where weights and inner state before the last `last` steps are constants (Shaban et al. 2019).

  Raises:
    ValueError: `last` is not in 1..steps.
  """
  if not 1 <= last <= steps:
    raise ValueError(f"truncated: last must be in 1..{steps} (the number of steps), not {last}")

  def estimate(problem, weights, alpha, inner_state, train_batches, val_batch, *, key=None):
    del key
    state, losses = lax.stop_gradient(inner_state), None
    early = jax.tree.map(lambda leaf: leaf[: steps - last], train_batches)
    late = jax.tree.map(lambda leaf: leaf[steps - last :], train_batches)
    if last < steps:
      weights, state, losses = lax.stop_gradient(inner_steps(problem, inner, weights, alpha, state, early))

    def outer(alpha):
      reached, reached_state, late_losses = inner_steps(problem, inner, weights, alpha, state, late)
      return problem.outer_loss(reached, alpha, val_batch), (reached, reached_state, late_losses)

    (loss, (reached, state, late_losses)), gradient = jax.value_and_grad(outer, has_aux=True)(alpha)
    losses = late_losses if losses is None else losses
    return HypergradientOut(loss, gradient, reached, state, {"inner_loss": losses[0]})

  return estimate
