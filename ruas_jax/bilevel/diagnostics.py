"""The terms of a hypergradient, the comparison of two hypergradients, and the outer loss's curvature in alpha."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from ruas_jax.bilevel.constants import split_parameters, split_problem, with_constants
from ruas_jax.bilevel.inner import inner_steps
from ruas_jax.bilevel.optimizer import Inner, explain_reverse_mode
from ruas_jax.bilevel.problem import BilevelProblem, PyTree


class Decomposition(NamedTuple):
  """The terms of the unrolled hypergradient, each with alpha's structure. Their sum is the hypergradient.

  Attributes:
    direct: `∂_α L_out(w, α)` at the incoming weights; it is the first-order estimate.
    shift: `∂_α L_out(w′, α) − ∂_α L_out(w, α)`, the change of the direct term by the inner steps.
    implicit: `(dw′/dα)ᵀ ∂_w L_out(w′, α)`, through the weights.
  """

  direct: PyTree
  shift: PyTree
  implicit: PyTree

  def total(self) -> PyTree:
    return optax.tree.add(optax.tree.add(self.direct, self.shift), self.implicit)


def decompose(
  problem: BilevelProblem,
  inner: Inner,
  weights: PyTree,
  alpha: PyTree,
  inner_state: PyTree,
  train_batches: PyTree,
  val_batch: PyTree,
) -> Decomposition:
  """The terms for all inner steps; their number is the length of `train_batches`."""
  problem, weights, alpha, inner_state, *_ = split_problem(problem, weights, alpha, inner_state)

  def reach(alpha):
    return inner_steps(problem, inner, weights, alpha, lax.stop_gradient(inner_state), train_batches)[0]

  outer_gradients = jax.grad(problem.outer_loss, argnums=(0, 1))
  with explain_reverse_mode("decompose"):
    reached, pull_back = jax.vjp(reach, alpha)
    to_weights, looked_ahead = outer_gradients(reached, alpha, val_batch)
    (implicit,) = pull_back(to_weights)
  _, direct = outer_gradients(weights, alpha, val_batch)
  return Decomposition(direct, optax.tree.sub(looked_ahead, direct), implicit)


def compare(estimate: PyTree, reference: PyTree) -> dict[str, jax.Array]:
  """`relative_error`: `||estimate − reference|| / ||reference||`; `cosine`; `sign_agreement`: the share of the numbers
  with the same sign. NaN if a norm is zero."""
  estimate, reference = ravel_pytree(estimate)[0], ravel_pytree(reference)[0]
  estimate = estimate.astype(jnp.promote_types(estimate.dtype, reference.dtype))
  reference = reference.astype(estimate.dtype)
  norms = jnp.linalg.norm(estimate), jnp.linalg.norm(reference)
  return {
    "relative_error": jnp.linalg.norm(estimate - reference) / norms[1],
    "cosine": jnp.vdot(estimate, reference) / (norms[0] * norms[1]),
    "sign_agreement": jnp.mean(jnp.sign(estimate) == jnp.sign(reference)),
  }


def summarize(terms: Decomposition) -> dict[str, jax.Array]:
  """Scalars: `total_norm`; and for each term its norm, its cosine with the total, and the share of equal signs."""
  total = terms.total()
  summary = {"total_norm": optax.tree.norm(total)}
  for name, term in terms._asdict().items():
    compared = compare(term, total)
    summary[f"{name}_norm"] = optax.tree.norm(term)
    summary[f"{name}_cosine"] = compared["cosine"]
    summary[f"{name}_sign_agreement"] = compared["sign_agreement"]
  return summary


class Curvature(NamedTuple):
  """The Hessian of the outer loss with respect to alpha's n floating numbers, at fixed weights.

  Attributes:
    hessian: `[n, n]`, mean over the batches.
    eigenvalues: `[n]` of that mean, ascending.
    spread: `[n]`, standard deviation over the batches of each batch's sorted eigenvalues.
  """

  hessian: jax.Array
  eigenvalues: jax.Array
  spread: jax.Array


def outer_curvature(problem: BilevelProblem, weights: PyTree, alpha: PyTree, batches: PyTree) -> Curvature:
  """Curvature over validation batches, which are stacked along a leading axis. Softmax logits always have one direction
  of zero curvature: adding the same number to all of them."""
  alpha, merge_alpha = split_parameters("alpha", alpha)
  flat, unravel = ravel_pytree(alpha)
  outer_loss = with_constants(problem, merge_alpha=merge_alpha).outer_loss

  def hessian(batch):
    def gradient(flat):
      return ravel_pytree(jax.grad(outer_loss, argnums=1)(weights, unravel(flat), batch))[0]

    _, product = jax.linearize(gradient, flat)
    columns = lax.map(product, jnp.eye(flat.size, dtype=flat.dtype))
    return (columns + columns.T) / 2

  hessians = lax.map(hessian, batches)
  mean = hessians.mean(axis=0)
  # One after another: jaxlib divides a batch among threads that wait for each other, and where each device of a CPU
  # does so at the same time, they wait for ever.
  spread = lax.map(jnp.linalg.eigvalsh, hessians).std(axis=0)
  return Curvature(mean, jnp.linalg.eigvalsh(mean), spread)
