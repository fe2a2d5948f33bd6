"""The inner update: one optax step on the inner loss. The same object trains the weights and is differentiated."""

import jax
import optax
from jax import lax

from ruas_jax.bilevel.problem import BilevelProblem, PyTree


def inner_step(
  problem: BilevelProblem,
  inner: optax.GradientTransformation,
  alpha: PyTree,
  weights: PyTree,
  state: PyTree,
  batch: PyTree,
) -> tuple[PyTree, PyTree, jax.Array]:
  """One step on `inner_loss` at `alpha`: new weights, new optimiser state, and the loss before the step."""
  loss, gradient = jax.value_and_grad(problem.inner_loss)(weights, alpha, batch)
  updates, state = inner.update(gradient, state, weights)
  return optax.apply_updates(weights, updates), state, loss


def inner_steps(
  problem: BilevelProblem,
  inner: optax.GradientTransformation,
  alpha: PyTree,
  weights: PyTree,
  state: PyTree,
  batches: PyTree,
) -> tuple[PyTree, PyTree, jax.Array]:
  """As many steps as `batches` is long; losses `[T]`. Reverse mode stores the weights between steps and no
  activations."""
  steps = jax.tree.leaves(batches)[0].shape[0]
  if steps == 1:  # nothing to save by computing it twice
    weights, state, loss = inner_step(
      problem, inner, alpha, weights, state, jax.tree.map(lambda leaf: leaf[0], batches)
    )
    return weights, state, loss[None]

  @jax.checkpoint
  def body(carry, batch):
    weights, state, loss = inner_step(problem, inner, alpha, *carry, batch)
    return (weights, state), loss

  (weights, state), losses = lax.scan(body, (weights, state), batches)
  return weights, state, losses
