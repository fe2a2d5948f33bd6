"""Conjugate gradients that return a finite vector even for a singular matrix."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

Product = Callable[[jax.Array], jax.Array]  # product of a matrix with a vector [n]


def conjugate_gradient(operator: Product, right: jax.Array, *, tolerance: float, iterations: int | None) -> jax.Array:
  """The `x [n]` for which `operator(x)` is nearest to `right [n]`, for a symmetric matrix.

  The iterates are those of `jax.scipy.sparse.linalg.cg`, which start at zero. That function returns the last iterate,
  which is NaN if a direction has no curvature. This one returns the iterate with the smallest residual.

  Args:
    operator: product with the matrix.
    right: the right-hand side.
    tolerance: limit of the residual's norm relative to that of `right`; the iteration stops below it.
    iterations: maximum number of iterations; None: ten times the number of unknowns.
  """
  most = 10 * right.size if iterations is None else iterations

  def solve(operator, right):
    enough = jnp.square(tolerance) * jnp.vdot(right, right)

    def unfinished(carry):
      count, _, _, _, square, _, _ = carry
      return (square > enough) & (count < most)  # false after a direction without curvature, which makes it NaN

    def iterate(carry):
      count, x, residual, direction, square, best, best_square = carry
      image = operator(direction)
      step = square / jnp.vdot(direction, image)
      x, residual = x + step * direction, residual - step * image
      new_square = jnp.vdot(residual, residual)
      direction = residual + new_square / square * direction
      is_better = new_square < best_square
      best, best_square = jnp.where(is_better, x, best), jnp.where(is_better, new_square, best_square)
      return count + 1, x, residual, direction, new_square, best, best_square

    zero, square = jnp.zeros_like(right), jnp.vdot(right, right)
    *_, best, _ = lax.while_loop(unfinished, iterate, (0, zero, right, right, square, zero, square))
    return best

  return lax.custom_linear_solve(operator, right, solve, symmetric=True)
