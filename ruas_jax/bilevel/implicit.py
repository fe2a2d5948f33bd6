"""Hypergradients by the implicit function theorem, at the weights that the inner steps reach.

    ∂_α L_out − (∂²_αw L_in)ᵀ (∂²_ww L_in + λI)⁻¹ ∂_w L_out

with three methods for the inverse. The result is exact where `∇_w L_in = 0` and an approximation elsewhere; the
diagnostic `inner_gradient_norm` measures the distance. It depends only on the inner loss, not on the optimiser: a
learning rate of zero is allowed.

The diagnostic `residual` is the norm of `right − (H + λI) x` divided by that of `right`. It is 1 for `x = 0`, which
gives the direct term alone. `converged` says whether it is below a limit. For cg the limit is its tolerance. For
neumann and nystrom, which are approximations, it is 1: beyond that they have diverged. cg reports `indefinite` too:
whether it met a direction of negative curvature, so that the weights are at no minimum.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from ruas_jax.bilevel.conjugate_gradient import Product, conjugate_gradient
from ruas_jax.bilevel.inner import inner_steps, one_of
from ruas_jax.bilevel.optimizer import Inner
from ruas_jax.bilevel.preconditioner import flat_preconditioner
from ruas_jax.bilevel.problem import Estimator, HypergradientOut, PyTree, require_key

# `(product with the Hessian, right-hand side [n], key, [n] -> pytree of weights) -> (x [n], diagnostics)`; each solver
# adds its damping.
_Solver = Callable[[Product, jax.Array, jax.Array | None, Callable], tuple[jax.Array, dict[str, jax.Array]]]


def neumann(*, inner: Inner, steps: int, terms: int, scale: float, damping: float = 0.0) -> Estimator:
  """The inverse as `scale · Σ_{i<terms} (I − scale·(H + damping·I))^i` (Lorraine et al. 2020).

  It converges if `H + damping·I` is positive definite and `scale` is less than two over its largest eigenvalue.

  Raises:
    ValueError: terms is less than 1, scale is not positive, or damping is negative.
  """
  del steps
  if terms < 1 or not scale > 0 or damping < 0:
    raise ValueError(
      f"neumann: terms must be at least 1, scale above 0 and damping at least 0, not {terms}, {scale} and {damping}"
    )

  def solve(hessian, right, key, unravel):
    del key, unravel
    return _neumann_series(_damped(hessian, damping), right, terms, jnp.asarray(scale, right.dtype)), {}

  return _implicit(inner, solve, damping)


def _neumann_series(hessian, right, terms, scale):
  def add_term(carry, _):
    total, power = carry
    power = power - scale * hessian(power)
    return (total + power, power), None

  (total, _), _ = lax.scan(add_term, (right, right), length=terms - 1)
  return scale * total


def cg(
  *,
  inner: Inner,
  steps: int,
  tolerance: float | None = None,
  iterations: int | None = None,
  damping: float = 0.0,
  preconditioner: Callable[[PyTree], PyTree] | None = None,
) -> Estimator:
  """The inverse by conjugate gradients from zero, for a positive definite `H + damping·I`. For a singular matrix, the
  iterate with the smallest residual.

  Args:
    inner: the inner optimiser.
    steps: number of inner steps before.
    tolerance: limit of the residual's norm relative to the right-hand side's; None: 1e-12 in float64, else 1e-5.
      `converged` allows for rounding: its limit is at least the square root of the dtype's epsilon.
    iterations: maximum number of iterations; None: ten times the number of weights.
    damping: λ.
    preconditioner: product of a pytree of weights with an approximation of the inverse Hessian, which is symmetric and
      positive definite; for instance by `jacobi_preconditioner`.

  Raises:
    ValueError: tolerance or damping is negative, or iterations is less than 1.
  """
  del steps
  if (tolerance is not None and tolerance < 0) or damping < 0 or (iterations is not None and iterations < 1):
    raise ValueError("cg: tolerance and damping must be at least 0, and iterations at least 1")

  def tolerance_in(dtype):
    return tolerance if tolerance is not None else (1e-12 if dtype == jnp.float64 else 1e-5)

  def solve(hessian, right, key, unravel):
    del key
    solved = conjugate_gradient(
      _damped(hessian, damping),
      right,
      tolerance=tolerance_in(right.dtype),
      iterations=iterations,
      preconditioner=flat_preconditioner(preconditioner, unravel),
    )
    return solved.x, {"iterations": solved.iterations, "indefinite": solved.indefinite}

  def limit(dtype):
    return max(tolerance_in(dtype), float(jnp.finfo(dtype).eps ** 0.5))

  return _implicit(inner, solve, damping, limit=limit)


def nystrom(*, inner: Inner, steps: int, rank: int, damping: float) -> Estimator:
  """The inverse of `N + damping·I`, where N is the Nyström approximation of H from `rank` random columns (Hataya and
  Yamada 2023). With all columns, N equals H. `key` selects the columns.

  Raises:
    ValueError: rank is less than 1 (or, when called, larger than the number of weights), damping is not positive, or
      there is no key.
  """
  del steps
  if rank < 1 or not damping > 0:
    raise ValueError(f"nystrom: rank must be at least 1 and damping above 0, not {rank} and {damping}")

  def solve(hessian, right, key, unravel):
    del unravel
    key = require_key("nystrom", key)
    if rank > right.size:
      raise ValueError(f"nystrom: rank {rank} is more than the {right.size} weights")
    chosen = jax.random.choice(key, right.size, (rank,), replace=False)
    columns = lax.map(lambda index: hessian(jnp.zeros_like(right).at[index].set(1)), chosen).T  # H[:, chosen]
    core = columns[chosen]
    # N = C core⁻¹ Cᵀ = Q (R core⁻¹ Rᵀ) Qᵀ: a small symmetric matrix in the span of the columns, zero outside it.
    basis, triangle = jnp.linalg.qr(columns)
    small = triangle @ jnp.linalg.pinv((core + core.T) / 2, hermitian=True) @ triangle.T
    inside = basis.T @ right
    solved = jnp.linalg.solve(small + damping * jnp.eye(rank, dtype=right.dtype), inside)
    return basis @ solved + (right - basis @ inside) / damping, {}

  return _implicit(inner, solve, damping)


def _damped(hessian: Product, damping: float) -> Product:
  return lambda x: hessian(x) + jnp.asarray(damping, x.dtype) * x


def _implicit(
  inner: Inner,
  solve: _Solver,
  damping: float = 0.0,
  limit: Callable[[jnp.dtype], float] = lambda dtype: 1.0,
) -> Estimator:
  """An estimator with the solver `solve`. Its diagnostics are `residual`, `converged` (whether the residual is below
  `limit`, a function of the dtype), `inner_gradient_norm`, `inner_loss`, and those of the solver."""

  def estimate(problem, weights, alpha, inner_state, train_batches, val_batch, *, key=None):
    reached, state, losses = inner_steps(problem, inner, weights, alpha, inner_state, train_batches)
    loss, (to_weights, direct) = jax.value_and_grad(problem.outer_loss, argnums=(0, 1))(reached, alpha, val_batch)
    gradients = jax.grad(problem.inner_loss, argnums=(0, 1))
    (gradient, _), second_derivative = jax.linearize(
      lambda weights: gradients(weights, alpha, one_of(train_batches, -1)), reached
    )
    right, unravel = ravel_pytree(to_weights)
    hessian = lambda x: ravel_pytree(second_derivative(unravel(x))[0])[0]
    solution, found = solve(hessian, right, key, unravel)
    curvature, mixed = second_derivative(unravel(solution))
    size = jnp.linalg.norm(right)
    residual = jnp.linalg.norm(right - ravel_pytree(curvature)[0] - damping * solution)
    residual = residual / jnp.where(size > 0, size, jnp.ones_like(size))
    return HypergradientOut(
      loss,
      optax.tree.sub(direct, mixed),
      reached,
      state,
      {
        "inner_loss": losses[0],
        "residual": residual,
        "converged": residual < limit(residual.dtype),
        "inner_gradient_norm": optax.tree.norm(gradient),
        **found,
      },
    )

  return estimate
