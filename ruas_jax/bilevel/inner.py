"""The inner update: one optax step on the inner loss. The same object trains the weights and is differentiated."""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ruas_jax.bilevel.problem import BilevelProblem, PyTree


def apply_optimizer(
  inner: optax.GradientTransformation, gradient: PyTree, state: PyTree, weights: PyTree
) -> tuple[PyTree, PyTree]:
  """New weights and optimiser state, with a derivative where the gradient is exactly zero too.

  Adam's root and the norm of a clip have none there, and a hypergradient through them would be NaN. The derivative is
  taken a hair's breadth beside zero instead; values are the optimiser's own.
  """

  def beside_zero(leaf):
    hair = jnp.asarray(jnp.finfo(leaf.dtype).tiny, leaf.dtype) ** 0.4  # its square is still a normal number
    return leaf + lax.stop_gradient(jnp.where(leaf == 0, hair, jnp.zeros_like(leaf)))

  def update(gradient, state, weights):
    updates, state = inner.update(gradient, state, weights)
    return optax.apply_updates(weights, updates), state

  def with_derivative_of(value, other):
    if not jnp.issubdtype(value.dtype, jnp.inexact):
      return value
    return lax.stop_gradient(value) + (other - lax.stop_gradient(other))

  value = update(*lax.stop_gradient((gradient, state, weights)))
  return jax.tree.map(with_derivative_of, value, update(jax.tree.map(beside_zero, gradient), state, weights))


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
  weights, state = apply_optimizer(inner, gradient, state, weights)
  return weights, state, loss


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
  if jax.tree.leaves(batches)[0].shape[0] == 1:  # nothing to save by computing it twice
    weights, state, loss = inner_step(problem, inner, alpha, weights, state, one_of(batches, 0))
    return weights, state, loss[None]

  @jax.checkpoint
  def body(carry, batch):
    weights, state, loss = inner_step(problem, inner, alpha, *carry, batch)
    return (weights, state), loss

  (weights, state), losses = lax.scan(body, (weights, state), batches)
  return weights, state, losses


def one_of(batches: PyTree, index: int) -> PyTree:
  """The batch at this place of the leading axis."""
  return jax.tree.map(lambda leaf: leaf[index], batches)


def split_inexact(tree: PyTree):
  """The floating leaves, which have derivatives, and `merge(leaves) -> tree` that puts others in their place.

  Optimiser states count their steps in integers, which derivatives must go around.
  """
  leaves, structure = jax.tree.flatten(tree)
  inexact = [jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in leaves]

  def merge(replacements):
    replacements = iter(replacements)
    return structure.unflatten(next(replacements) if own else leaf for leaf, own in zip(leaves, inexact, strict=True))

  return [leaf for leaf, own in zip(leaves, inexact, strict=True) if own], merge
