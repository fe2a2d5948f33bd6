"""Conjugate gradients that return a finite vector even for a singular matrix, and say what they met on the way."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Product = Callable[[jax.Array], jax.Array]  # product of a matrix with a vector [n]


class Solved(NamedTuple):
  """A solution and what is known about it.

  Attributes:
    x: `[n]`, the iterate with the smallest residual.
    iterations: `[]` int32, number of iterations; each takes one product. One more, if a residual had to be checked.
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
  iterate, which is NaN if a direction has no curvature. This one returns the iterate with the smallest residual.

  The residuals are updated, not computed anew. They are off by about epsilon `|A| |x|`, which is much where x grows
  along directions that are nothing but rounding, as for a singular matrix. Such an iterate is returned only if its
  residual, computed anew, is less than half of the best one that can be trusted.

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
      count, _, residual, *_ = carry
      square = jnp.vdot(residual, residual)
      return (square > enough) & (count < most)  # false after a direction without curvature, which makes it NaN

    def iterate(carry):
      count, x, residual, direction, product, best, safe, curvature, noise = carry
      image = operator(direction)
      along = jnp.vdot(direction, image)
      step = product / along
      x, residual = x + step * direction, residual - step * image
      square, closer = jnp.vdot(residual, residual), precondition(residual)
      new_product = jnp.vdot(residual, closer)
      length = jnp.vdot(direction, direction)
      curvature = jnp.minimum(curvature, along / length)
      noise = jnp.maximum(noise, rounding * jnp.sqrt(jnp.vdot(image, image) / length))
      direction = closer + new_product / product * direction
      drift = jnp.square(rounding * noise) * jnp.vdot(x, x)
      best, safe = _better(best, x, square), _better(safe, x, square + drift)
      return count + 1, x, residual, direction, new_product, best, safe, curvature, noise

    x = jnp.zeros_like(right) if start is None else start
    residual = right if start is None else right - operator(start)
    closer, infinity = precondition(residual), jnp.full((), jnp.inf, right.dtype)
    product, square = jnp.vdot(residual, closer), jnp.vdot(residual, residual)
    first, none = (x, square), jnp.zeros((), jnp.int32)
    carry = (none, x, residual, closer, product, first, first, infinity, jnp.zeros_like(infinity))
    count, _, _, _, _, (best, _), (safe, safe_square), curvature, noise = lax.while_loop(unfinished, iterate, carry)

    def checked():
      left = right - operator(best)
      return jnp.where(4 * jnp.vdot(left, left) < safe_square, best, safe), count + 1

    x, count = lax.cond(jnp.all(best == safe), lambda: (best, count), checked)
    return x, (count, curvature, noise)

  x, (count, curvature, noise) = lax.custom_linear_solve(operator, right, solve, symmetric=True, has_aux=True)
  return Solved(x, count, curvature, noise)


def _better(known: tuple[jax.Array, jax.Array], x: jax.Array, square: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The iterate with the smaller squared residual, and this; the known one if the other's is not finite."""
  is_better = square < known[1]
  return jnp.where(is_better, x, known[0]), jnp.where(is_better, square, known[1])
