"""The inner update: one optax step on the inner loss. The same object trains the weights and is differentiated."""

import jax
from jax import lax

from ruas_jax.bilevel.constants import split_parameters, split_state, with_constants
from ruas_jax.bilevel.invariants import with_invariants
from ruas_jax.bilevel.optimizer import Inner, apply_optimizer
from ruas_jax.bilevel.problem import BilevelProblem, PyTree


def inner_step(
  problem: BilevelProblem,
  inner: Inner,
  weights: PyTree,
  alpha: PyTree,
  state: PyTree,
  batch: PyTree,
) -> tuple[PyTree, PyTree, jax.Array]:
  """One step on `inner_loss` at `alpha`: the new weights, the new optimiser state, and the loss before the step.

  Raises:
    ProblemError: the loss is not one real number; or a leaf of the weights is complex, or no leaf is floating.
  """
  state, merge_state = split_state(state, weights)
  weights, merge_weights = split_parameters("weights", weights)
  problem = with_constants(problem, merge_weights)
  loss, gradient = jax.value_and_grad(problem.inner_loss)(weights, alpha, batch)
  at_batch = lambda weights, alpha: problem.inner_loss(weights, alpha, batch)
  weights, state = apply_optimizer(inner, gradient, state, weights, loss, at_batch, alpha)
  return merge_weights(weights), merge_state(state), loss


def inner_steps(
  problem: BilevelProblem,
  inner: Inner,
  weights: PyTree,
  alpha: PyTree,
  state: PyTree,
  batches: PyTree,
) -> tuple[PyTree, PyTree, jax.Array]:
  """As many steps as `batches` is long; the losses are `[T]`. Reverse mode stores the weights between steps, but no
  activations. What the loss computes from alpha alone is computed, and stored, once."""
  if jax.tree.leaves(batches)[0].shape[0] == 1:  # checkpointing a single step saves nothing
    weights, state, loss = inner_step(problem, inner, weights, alpha, state, one_of(batches, 0))
    return weights, state, loss[None]

  loss = problem.inner_loss
  at_alpha = with_invariants(lambda w, batch: loss(w, alpha, batch), weights, one_of(batches, 0))
  problem = problem._replace(inner_loss=lambda w, _, batch: at_alpha(w, batch))

  @jax.checkpoint
  def body(carry, batch):
    weights, state, loss = inner_step(problem, inner, carry[0], alpha, carry[1], batch)
    return (weights, state), loss

  (weights, state), losses = lax.scan(body, (weights, state), batches)
  return weights, state, losses


def one_of(batches: PyTree, index: int) -> PyTree:
  """The batch at this index of the leading axis."""
  return jax.tree.map(lambda leaf: leaf[index], batches)
