"""The exact hypergradient of unrolled inner steps in forward mode: memory does not grow with the number of steps."""

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from ruas_jax.bilevel.constants import split_inexact
from ruas_jax.bilevel.optimizer import Inner, apply_optimizer
from ruas_jax.bilevel.problem import Estimator, HypergradientOut


def forward(*, inner: Inner, steps: int, chunk: int = 1) -> Estimator:
  """The same value as `unrolled`. The derivative `d weights / d alpha` is computed along with the steps.

  Each step costs one directional derivative of the inner gradient per number in alpha; `chunk` of them run together.

  Raises:
    ValueError: `chunk` is less than 1.
  """
  del steps  # it is the number of batches
  if chunk < 1:
    raise ValueError(f"forward: chunk must be at least 1, not {chunk}")

  def estimate(problem, weights, alpha, inner_state, train_batches, val_batch, *, key=None):
    del key
    flat, unravel = ravel_pytree(alpha)
    directions = jax.vmap(unravel)(jnp.eye(flat.size, dtype=flat.dtype))

    def still(tree):
      return jax.tree.map(lambda leaf: jnp.zeros((flat.size, *leaf.shape), leaf.dtype), tree)

    def step(carry, batch):
      weights, state, tangents = carry
      leaves, merge = split_inexact(state)

      def inner_loss(weights, alpha):
        return problem.inner_loss(weights, alpha, batch)

      def update(weights, leaves, alpha):
        loss, gradient = jax.value_and_grad(inner_loss)(weights, alpha)
        weights, state = apply_optimizer(inner, gradient, merge(leaves), weights, loss, inner_loss, alpha)
        return (weights, split_inexact(state)[0]), (state, loss)

      (weights, _), push, (state, loss) = jax.linearize(update, weights, leaves, alpha, has_aux=True)
      tangents = lax.map(lambda inputs: push(*inputs), (*tangents, directions), batch_size=chunk)
      return (weights, state, tangents), loss

    start = (weights, inner_state, (still(weights), still(split_inexact(inner_state)[0])))
    (reached, state, (tangents, _)), losses = lax.scan(step, start, train_batches)
    loss, (to_weights, direct) = jax.value_and_grad(problem.outer_loss, argnums=(0, 1))(reached, alpha, val_batch)
    through_weights = jax.vmap(lambda tangent: optax.tree.vdot(tangent, to_weights))(tangents)
    gradient = optax.tree.add(direct, unravel(jnp.asarray(through_weights)))
    return HypergradientOut(loss, gradient, reached, state, {"inner_loss": losses[0]})

  return estimate
