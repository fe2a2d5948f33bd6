"""Conjugate gradients that return a finite vector even for a singular matrix, and say what they met on the way."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

_ROUNDINGS = 8
"""A curvature is taken for zero up to so many times the dtype's epsilon, of the largest one."""

Product = Callable[[jax.Array], jax.Array]  # product of a matrix with a vector [n]


class Solved(NamedTuple):
  """A solution and what is known about it.

  Attributes:
    x: `[n]`, the iterate with the smallest residual.
    iterations: `[]` int32, number of iterations; each takes one product.
    curvature: `[]`, the smallest `p'Ap / p'p` over the directions `p`; infinity without an iteration.
    noise: `[]`, a limit of the curvature's rounding: the largest `|Ap| / |p|` times the root of the dtype's epsilon.
  """

  x: jax.Array
  iterations: jax.Array
  curvature: jax.Array
  noise: jax.Array

  @property
  def indefinite(self) -> jax.Array:
    """`[]`, whether a direction had a negative curvature, by more than rounding. Then the matrix is not positive
    definite, and x need not be a solution."""
    return self.curvature < -self.noise


def conjugate_gradient(
  operator: Product,
  right: jax.Array,
  *,
  tolerance: float,
  iterations: int | None,
  start: jax.Array | None = None,
  preconditioner: Product | None = None,
) -> Solved:
  """The `x [n]` for which `operator(x)` is nearest to `right [n]`, for a symmetric matrix.

  Without a preconditioner, the iterates are those of `jax.scipy.sparse.linalg.cg`. That function returns the last
  iterate, which is NaN if a direction has no curvature. This one returns the iterate with the smallest residual, and
  ends at a direction whose curvature is no larger than its rounding, as in the null space of a singular matrix.

  Args:
    operator: product with the matrix.
    right: the right-hand side.
    tolerance: limit of the residual's norm relative to that of `right`; the iteration stops below it.
    iterations: maximum number of iterations; None: ten times the number of unknowns.
    start: `[n]`, the first iterate; None: zero. It takes one more product.
    preconditioner: product with an approximation of the inverse, which is symmetric and positive definite.
  """
  most = 10 * right.size if iterations is None else iterations
  precondition = preconditioner or (lambda vector: vector)

  def solve(operator, right):
    enough = jnp.square(tolerance) * jnp.vdot(right, right)
    rounding = jnp.finfo(right.dtype).eps ** 0.5

    def unfinished(carry):
      count, _, residual, *_, is_curved = carry
      square = jnp.vdot(residual, residual)
      return (square > enough) & (count < most) & is_curved

    def iterate(carry):
      count, x, residual, direction, product, best, best_square, curvature, noise, _ = carry
      image = operator(direction)
      along = jnp.vdot(direction, image)
      step = product / along
      x, residual = x + step * direction, residual - step * image
      square, closer = jnp.vdot(residual, residual), precondition(residual)
      new_product = jnp.vdot(residual, closer)
      length = jnp.vdot(direction, direction)
      curvature = jnp.minimum(curvature, along / length)
      noise = jnp.maximum(noise, rounding * jnp.sqrt(jnp.vdot(image, image) / length))
      is_curved = jnp.abs(along) > _ROUNDINGS * rounding * noise * length
      direction = closer + new_product / product * direction
      is_better = is_curved & (square < best_square)
      best, best_square = jnp.where(is_better, x, best), jnp.where(is_better, square, best_square)
      return count + 1, x, residual, direction, new_product, best, best_square, curvature, noise, is_curved

    x = jnp.zeros_like(right) if start is None else start
    residual = right if start is None else right - operator(start)
    closer, infinity = precondition(residual), jnp.full((), jnp.inf, right.dtype)
    product, square = jnp.vdot(residual, closer), jnp.vdot(residual, residual)
    carry = (
      jnp.zeros((), jnp.int32),
      x,
      residual,
      closer,
      product,
      x,
      square,
      infinity,
      jnp.zeros_like(infinity),
      jnp.array(True),
    )
    count, _, _, _, _, best, _, curvature, noise, _ = lax.while_loop(unfinished, iterate, carry)
    return best, (count, curvature, noise)

  x, (count, curvature, noise) = lax.custom_linear_solve(operator, right, solve, symmetric=True, has_aux=True)
  return Solved(x, count, curvature, noise)
