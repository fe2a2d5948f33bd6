"""Minimum and hypergradient of a problem with few weights and a strictly convex inner loss, by its whole Hessian."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from ruas_jax.bilevel.problem import BilevelProblem, PyTree

_MOST_STEPS = 50


def newton(loss: Callable[[PyTree], jax.Array], weights: PyTree) -> PyTree:
  """The minimum of a strictly convex `loss`, by Newton's method from `weights`. A step is halved until the loss falls;
  the method ends where rounding hides the fall."""
  start, unravel = ravel_pytree(weights)
  value = lambda flat: loss(unravel(flat))

  def step(carry):
    count, flat, _ = carry
    gradient = jax.grad(value)(flat)
    direction = -jnp.linalg.solve(jax.hessian(value)(flat), gradient)
    slope, height = jnp.vdot(gradient, direction), value(flat)
    falls = lambda size: value(flat + size * direction) <= height + 1e-4 * size * slope
    size = lax.while_loop(lambda size: ~falls(size) & (size > 1e-3), lambda size: size / 2, jnp.ones_like(slope))
    # Near the minimum the fall is hidden by rounding, but a whole step still makes the gradient smaller.
    is_near = -slope <= 100 * jnp.finfo(flat.dtype).eps * (1 + jnp.abs(height))
    moved = flat + jnp.where(is_near, jnp.ones_like(size), size) * direction
    return count + 1, moved, is_near

  _, flat, _ = lax.while_loop(lambda carry: ~carry[2] & (carry[0] < _MOST_STEPS), step, (0, start, jnp.zeros((), bool)))
  return unravel(flat)


def exact_functions(
  problem: BilevelProblem, minimum: Callable[[PyTree], PyTree], train: PyTree, validation: PyTree
) -> tuple[Callable[[PyTree], jax.Array], Callable[[PyTree], PyTree]]:
  """`value` and `hypergradient` of a StandardProblem, by the implicit function theorem with a dense Hessian. The first
  derivative of `value` is `hypergradient`."""

  @jax.custom_jvp
  def value(alpha):
    return problem.outer_loss(minimum(alpha), alpha, validation)

  @value.defjvp
  def _(primals, tangents):
    return value(*primals), optax.tree.vdot(hypergradient(*primals), *tangents)

  def hypergradient(alpha):
    weights = minimum(alpha)
    flat, unravel = ravel_pytree(weights)
    to_weights, direct = jax.grad(problem.outer_loss, argnums=(0, 1))(weights, alpha, validation)
    inner = lambda flat, alpha: problem.inner_loss(unravel(flat), alpha, train)
    adjoint = jnp.linalg.solve(jax.hessian(inner)(flat, alpha), ravel_pytree(to_weights)[0])
    _, pull_back = jax.vjp(lambda alpha: jax.grad(inner)(flat, alpha), alpha)
    return optax.tree.sub(direct, pull_back(adjoint)[0])

  return value, hypergradient


def solved_by_newton(problem: BilevelProblem, train: PyTree, validation: PyTree, weights: PyTree) -> dict[str, Any]:
  """`minimum`, `value` and `hypergradient` of a StandardProblem whose inner loss is strictly convex."""
  minimum = lambda alpha: newton(lambda weights: problem.inner_loss(weights, alpha, train), weights)
  value, hypergradient = exact_functions(problem, minimum, train, validation)
  return {"minimum": minimum, "value": value, "hypergradient": hypergradient}
