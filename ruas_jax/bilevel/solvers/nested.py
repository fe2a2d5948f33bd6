"""Methods that take several inner steps, then solve for the hypergradient, then move alpha once.

They start each inner loop at the weights of the step before. They assume that the inner loss is smooth and strongly
convex in w, and that the outer loss is smooth.

Diagnostics: `outer_loss`, `inner_gradient_norm` at the last inner step; and for the linear system `residual`
(amigo), `converged` too (amigo with cg) or `last_term` (stocbio). nested: the diagnostics of the estimator.
"""

import functools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ruas_jax.bilevel.constants import with_constants
from ruas_jax.bilevel.estimators import make_estimator
from ruas_jax.bilevel.inner import inner_step
from ruas_jax.bilevel.optimizer import Inner, init_optimizer, optimizer_at
from ruas_jax.bilevel.preconditioner import Preconditioner
from ruas_jax.bilevel.problem import BilevelProblem, PyTree
from ruas_jax.bilevel.solvers.linear import (
  descend_linear,
  draw_series,
  hypergradient,
  neumann_hypergradient,
  solve_linear,
)
from ruas_jax.bilevel.solvers.oracle import Oracle
from ruas_jax.bilevel.solvers.rates import Rate, descend, rate_at, require_counts, require_positive
from ruas_jax.bilevel.solvers.sampling import Draws
from ruas_jax.bilevel.solvers.solver import Method, Move, Point


def amigo(
  *,
  inner: Rate,
  inner_steps: int,
  linear: Rate | None = None,
  linear_steps: int,
  linear_solver: Literal["gradient", "cg"] = "gradient",
  tolerance: float | None = None,
  preconditioner: Preconditioner | None = None,
) -> Method:
  """AmIGO (Arbel, Mairal 2022): weights and linear system start where the step before has ended.

      w ← w − ρ ∂_w g, inner_steps times;   v ← v − ρ_v (H v + ∂_w f), linear_steps times;   a ← a − γ (∂_a f + C v)

  Args:
    inner: ρ.
    inner_steps: number of inner steps.
    linear: ρ_v; None: ρ.
    linear_steps: number of steps on the linear system, or the maximum number of iterations of cg.
    linear_solver: gradient: with a new sample in each step; cg: conjugate gradients on one sample.
    tolerance: of cg: limit of the residual relative to `∂_w f`; None: 1e-10 in float64, else 1e-5.
    preconditioner: of cg: product with an approximation of the inverse Hessian (`jacobi_preconditioner`).
  """
  linear = inner if linear is None else linear
  require_positive("amigo", inner=inner, linear=linear, **({} if tolerance is None else {"tolerance": tolerance}))
  require_counts("amigo", inner_steps=inner_steps, linear_steps=linear_steps)
  if linear_solver not in ("gradient", "cg"):
    raise ValueError(f"method amigo: linear_solver must be gradient or cg, not {linear_solver!r}")

  def init(oracle, point, draws):
    del oracle, draws
    return optax.tree.zeros_like(point.weights)

  def step(oracle, point, draws):
    alpha, v = point.alpha, point.memory
    weights, norm = _descend_inner(oracle, point, draws, inner, inner_steps)
    value, to_weights, direct = oracle.outer_gradients(weights, alpha, draws.validation())
    if linear_solver == "cg":
      v, found = solve_linear(
        oracle,
        weights,
        alpha,
        draws.train(),
        v,
        to_weights,
        tolerance=tolerance,
        iterations=linear_steps,
        preconditioner=preconditioner,
      )
    else:
      loop, rate = draws.loop(linear_steps), rate_at(linear, point.step)

      def iterate(index, carry):
        return descend_linear(oracle, weights, alpha, loop.at(index).train(), carry[0], to_weights, rate)

      v, residual = oracle.loop(linear_steps, iterate, (v, norm * 0))
      found = {"residual": residual}
    direction = hypergradient(oracle, weights, alpha, draws.train(), v, direct)
    return Move(weights, direction, v, {"outer_loss": value, "inner_gradient_norm": norm, **found})

  return Method(init, step)


def stocbio(*, inner: Rate, inner_steps: int, linear: Rate, terms: int) -> Method:
  """stocBiO (Ji, Yang, Liang 2021): the linear system by a Neumann series, whose factors have a sample each.

      w ← w − ρ ∂_w g, inner_steps times
      v = −η Σ_{q=0..terms} Π_{q factors} (I − η H_j) ∂_w f;   a ← a − γ (∂_a f + C v)

  Args:
    inner: ρ.
    inner_steps: number of inner steps.
    linear: η.
    terms: number of factors of the longest product, Q in the paper.
  """
  require_positive("stocbio", inner=inner, linear=linear)
  require_counts("stocbio", inner_steps=inner_steps, terms=terms)

  def init(oracle, point, draws):
    del oracle, point, draws
    return ()

  def step(oracle, point, draws):
    weights, norm = _descend_inner(oracle, point, draws, inner, inner_steps)
    series, scale = draw_series(draws, terms, "full"), rate_at(linear, point.step)
    value, direction, found = neumann_hypergradient(oracle, weights, point.alpha, series, scale, terms, "full")
    return Move(weights, direction, (), {"outer_loss": value, "inner_gradient_norm": norm, **found})

  return Method(init, step)


def nested(
  *,
  estimator: str = "unrolled",
  inner: Inner,
  inner_steps: int = 1,
  estimator_options: Mapping[str, Any] | None = None,
) -> Method:
  """Alternating descent: `inner_steps` updates of the optax optimiser `inner`, and one of alpha by the hypergradient of
  the estimator through these steps. The weights and the optimiser's state are those that the step before has reached.

  Its derivatives are those of the estimator, which are not counted.

  Args:
    estimator: a name in `ESTIMATORS`.
    inner: an optimiser, or a function of alpha that returns one.
    inner_steps: number of inner steps.
    estimator_options: options of the estimator.
  """
  make_estimator(estimator, inner=inner, steps=inner_steps, **(estimator_options or {}))  # checks the options

  def init(oracle, point, draws):
    del draws
    return init_optimizer(optimizer_at(inner, oracle.merge_alpha(point.alpha)), point.weights)

  def step(oracle, point, draws):
    at_point = (lambda alpha: optimizer_at(inner, oracle.merge_alpha(alpha))) if callable(inner) else inner
    estimate = make_estimator(estimator, inner=at_point, steps=inner_steps, **(estimator_options or {}))
    loop, validation = draws.loop(inner_steps), draws.validation()

    def resolve(batch):
      """What a loss receives: the estimator's batches are indices, so that T copies of all examples are never made."""
      if not isinstance(batch, _Drawn):
        return batch
      sample = loop.at(batch.index).train()
      return oracle.inputs(sample.batch, sample.key, batch.collection)

    lazy = BilevelProblem(*(functools.partial(_at_resolved, loss, resolve) for loss in oracle.losses))
    problem = with_constants(lazy, oracle.merge_weights, oracle.merge_alpha)
    train, collection = _batches_along(oracle, problem, at_point, point, inner_steps, resolve)
    held_out = oracle.inputs(validation.batch, validation.key)
    out = estimate(problem, point.weights, point.alpha, point.memory, train, held_out, key=draws.key())
    found = {"outer_loss": out.outer_loss, **out.diagnostics}
    return Move(out.weights, out.gradient, out.inner_state, found, collection, counted=False)

  return Method(init, step)


class _Drawn(NamedTuple):
  """A training batch of an estimator: the index of its inner step, and the collection of this step."""

  index: jax.Array
  collection: PyTree


def _at_resolved(loss, resolve, weights, alpha, batch):
  return loss(weights, alpha, resolve(batch))


def _batches_along(oracle, problem, inner, point, steps, resolve):
  """The batches of the inner steps, `[T, ...]`, and the collection after them. With a mutable collection, the steps are
  taken once beforehand: each step then has the collection of its time, as a constant."""
  indices = jnp.arange(steps)
  if oracle.record.collection is None:
    return _Drawn(indices, None), None

  def advance(carry, index):
    weights, state, collection = carry
    batch = _Drawn(index, collection)
    merged = oracle.merge_weights(weights), oracle.merge_alpha(point.alpha)
    _, new = oracle.losses.inner_loss.with_collection(*merged, resolve(batch))
    weights, state, _ = inner_step(problem, inner, weights, point.alpha, state, batch)
    return (weights, state, new), batch

  start = (point.weights, point.memory, oracle.record.collection)
  (_, _, collection), batches = lax.scan(advance, start, indices)
  oracle.record = oracle.record._replace(collection=collection)  # that of the outer loss
  return batches, collection


def _descend_inner(oracle: Oracle, point: Point, draws: Draws, inner: Rate, steps: int):
  """The weights after the inner steps from `point.weights`, and the norm of the last inner gradient."""
  loop, rate = draws.loop(steps), rate_at(inner, point.step)

  def iterate(index, carry):
    gradient = oracle.inner_gradient(carry[0], point.alpha, loop.at(index).train())
    return descend(carry[0], rate, gradient), optax.tree.norm(gradient)

  return oracle.loop(steps, iterate, (point.weights, optax.tree.norm(point.weights) * 0))
