"""Solutions of `H v = −∂_w f` for the hypergradient `∂_a f + C v`, from products that the oracle counts."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from ruas_jax.bilevel.conjugate_gradient import conjugate_gradient
from ruas_jax.bilevel.preconditioner import Preconditioner, flat_preconditioner
from ruas_jax.bilevel.problem import PyTree
from ruas_jax.bilevel.solvers.oracle import Oracle
from ruas_jax.bilevel.solvers.rates import Number, add_scaled, descend, relative_norm
from ruas_jax.bilevel.solvers.sampling import Draws, Loop, Sample

Truncation = Literal["full", "random"]


class Estimate(NamedTuple):
  """A hypergradient.

  Attributes:
    outer_loss: `[]`, on the validation sample.
    gradient: of alpha.
    diagnostics: scalars by name.
  """

  outer_loss: jax.Array
  gradient: PyTree
  diagnostics: dict[str, jax.Array]


def hypergradient(oracle: Oracle, weights: PyTree, alpha: PyTree, sample: Sample, v: PyTree, direct: PyTree) -> PyTree:
  """`∂_a f + C v`."""
  return optax.tree.add(direct, oracle.cross_product(weights, alpha, sample, v))


def descend_linear(
  oracle: Oracle, weights: PyTree, alpha: PyTree, sample: Sample, v: PyTree, to_weights: PyTree, rate: Number
) -> tuple[PyTree, jax.Array]:
  """One step of gradient descent on `1/2 v'Hv + v'∂_w f`; and the relative residual before it."""
  slope = optax.tree.add(oracle.hessian_product(weights, alpha, sample, v), to_weights)
  return descend(v, rate, slope), relative_norm(slope, to_weights)


def solve_linear(
  oracle: Oracle,
  weights: PyTree,
  alpha: PyTree,
  sample: Sample,
  v: PyTree,
  to_weights: PyTree,
  *,
  tolerance: float | None,
  iterations: int | None,
  preconditioner: Preconditioner | None = None,
) -> tuple[PyTree, dict[str, jax.Array]]:
  """The solution by conjugate gradients from `v` on one sample; diagnostics: `residual` and `converged`."""
  flat, unravel = ravel_pytree(v)
  right = -ravel_pytree(to_weights)[0]
  if tolerance is None:
    tolerance = 1e-10 if right.dtype == jnp.float64 else 1e-5
  hessian = oracle.hessian_operator(weights, alpha, sample)
  operator = lambda flat: ravel_pytree(hessian(unravel(flat)))[0]
  solved = conjugate_gradient(
    operator,
    right,
    tolerance=tolerance,
    iterations=iterations,
    start=flat,
    preconditioner=flat_preconditioner(preconditioner, unravel),
  )
  oracle.count_solution(sample, solved, products=1)  # of the first residual
  v = unravel(solved.x)
  slope = optax.tree.add(oracle.hessian_product(weights, alpha, sample, v), to_weights)
  residual = relative_norm(slope, to_weights)
  limit = max(tolerance, float(jnp.finfo(residual.dtype).eps ** 0.5))
  return v, {"residual": residual, "converged": residual < limit}


class Series(NamedTuple):
  """The samples of one Neumann series, so that it can be evaluated at two points.

  Attributes:
    train: the sample of C.
    validation: the sample of the outer loss.
    factors: draws of the factors' samples.
    length: number of factors.
  """

  train: Sample
  validation: Sample
  factors: Loop
  length: int | jax.Array


def draw_series(draws: Draws, factors: int, truncation: Truncation) -> Series:
  """The samples of a series of `factors` factors; a random one has 0 to `factors` of them, with equal probabilities."""
  length = factors if truncation == "full" else jax.random.randint(draws.key(), (), 0, factors + 1)
  return Series(draws.train(), draws.validation(), draws.loop(factors), length)


def neumann_hypergradient(
  oracle: Oracle, weights: PyTree, alpha: PyTree, series: Series, rate: Number, factors: int, truncation: Truncation
) -> Estimate:
  """The hypergradient with a Neumann series in the place of the inverse; each factor has its sample.

  full: `H⁻¹ ≈ rate Σ_{q=0..factors} Π (I − rate H)`, with q factors in the product. random: the one product of a random
  length, times `rate · (factors + 1)`, whose mean over the lengths is this sum.
  """
  value, to_weights, direct = oracle.outer_gradients(weights, alpha, series.validation)

  def multiply(index, carry):
    power, total = carry
    image = oracle.hessian_product(weights, alpha, series.factors.at(index).train(), power)
    power = descend(power, rate, image)
    return power, optax.tree.add(total, power)

  power, total = oracle.loop(series.length, multiply, (to_weights, to_weights))
  inverse, factor = (total, rate) if truncation == "full" else (power, rate * (factors + 1))
  v = add_scaled(optax.tree.zeros_like(inverse), -factor, inverse)
  gradient = hypergradient(oracle, weights, alpha, series.train, v, direct)
  return Estimate(value, gradient, {"last_term": relative_norm(power, to_weights)})


def require_truncation(method: str, truncation: str) -> None:
  """Raises ValueError if the word is unknown."""
  if truncation not in ("full", "random"):
    raise ValueError(f"method {method}: truncation must be full or random, not {truncation!r}")
