"""Preconditioners of the linear system with the inner Hessian."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from ruas_jax.bilevel.constants import split_problem
from ruas_jax.bilevel.problem import BilevelProblem, PyTree

Preconditioner = Callable[[PyTree], PyTree]


def jacobi_preconditioner(
  problem: BilevelProblem,
  weights: PyTree,
  alpha: PyTree,
  batch: PyTree,
  key: jax.Array,
  *,
  probes: int = 10,
  damping: float = 1e-3,
) -> Preconditioner:
  """The division by the Hessian's diagonal, which is estimated from products: the mean of `z · Hz` over signs z (Bekas,
  Kokiopoulou, Saad 2007). It is exact if the Hessian is diagonal.

  Args:
    problem: the problem.
    weights, alpha, batch: where the Hessian of the inner loss is taken.
    key: PRNG key of the signs.
    probes: number of products.
    damping: the smallest diagonal entry, relative to the largest; smaller ones, and negative ones, are raised to it.
  """
  problem, weights, alpha, *_ = split_problem(problem, weights, alpha, ())
  flat, unravel = ravel_pytree(weights)
  gradient = lambda flat: ravel_pytree(jax.grad(problem.inner_loss)(unravel(flat), alpha, batch))[0]
  _, product = jax.linearize(gradient, flat)

  def probe(key):
    signs = jax.random.rademacher(key, flat.shape, flat.dtype)
    return signs * product(signs)

  diagonal = lax.map(probe, jax.random.split(key, probes)).mean(axis=0)
  diagonal = unravel(jnp.maximum(diagonal, damping * jnp.max(jnp.abs(diagonal))))
  return lambda vector: jax.tree.map(jnp.divide, vector, diagonal)


def flat_preconditioner(
  preconditioner: Preconditioner | None, unravel: Callable[[jax.Array], PyTree]
) -> Callable[[jax.Array], jax.Array] | None:
  """The preconditioner for raveled vectors."""
  return preconditioner and (lambda flat: ravel_pytree(preconditioner(unravel(flat)))[0])
