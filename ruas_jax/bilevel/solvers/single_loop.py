"""Methods that move the weights w, the solution v of the linear system, and alpha a in one loop.

The exact hypergradient is `∂_a f + C v` where `H v = −∂_w f`. All of them assume that the inner loss is smooth and
strongly convex in w, and that the outer loss is smooth. Each step's batches are independent of those before.

Diagnostics: `outer_loss`, `inner_gradient_norm`, and `residual`, the norm of `H v + ∂_w f` divided by that of `∂_w f`
(ttsa: `last_term`, the norm of the last term of the series divided by that of `∂_w f`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ruas_jax.bilevel.problem import PyTree
from ruas_jax.bilevel.solvers.linear import (
  Truncation,
  descend_linear,
  draw_series,
  hypergradient,
  neumann_hypergradient,
  require_truncation,
)
from ruas_jax.bilevel.solvers.oracle import Oracle
from ruas_jax.bilevel.solvers.rates import Rate, descend, rate_at, relative_norm, require_counts, require_positive
from ruas_jax.bilevel.solvers.sampling import Sample
from ruas_jax.bilevel.solvers.solver import Method, Move


class Directions(NamedTuple):
  """The three directions of SOBA and of the methods that reduce its variance.

  Attributes:
    weights: `∂_w g`.
    linear: `H v + ∂_w f`.
    alpha: `C v + ∂_a f`.
  """

  weights: PyTree
  linear: PyTree
  alpha: PyTree


def soba(*, inner: Rate, linear: Rate | None = None, momentum: Rate = 1.0) -> Method:
  """SOBA (Dagréou, Ablin, Vaiter, Moreau 2022), and with a momentum below 1 MA-SOBA (Chen, Xiao, Balasubramanian 2023).

      w ← w − ρ ∂_w g,   v ← v − ρ_v (H v + ∂_w f),   a ← a − γ h,   h = (1 − θ) h + θ (C v + ∂_a f)

  All three directions are those of the present point. h is averaged first, and alpha moves by the new h. MA-SOBA's
  paper moves it by the h of the step before.

  Args:
    inner: ρ.
    linear: ρ_v; None: ρ.
    momentum: θ; 1: no average.
  """
  linear = inner if linear is None else linear
  require_positive("soba", inner=inner, linear=linear, momentum=momentum)

  def init(oracle, point, draws):
    del oracle, draws
    return optax.tree.zeros_like(point.weights), optax.tree.zeros_like(point.alpha)

  def step(oracle, point, draws):
    v, average = point.memory
    present = (point.weights, point.alpha, v)
    directions, outer = present_directions(oracle, *present, draws.train(), draws.validation())
    share = rate_at(momentum, point.step)
    average = descend(average, share, optax.tree.sub(average, directions.alpha))
    return Move(
      descend(point.weights, rate_at(inner, point.step), directions.weights),
      average,
      (descend(v, rate_at(linear, point.step), directions.linear), average),
      report(directions, *outer),
    )

  return Method(init, step)


def fsla(*, inner: Rate, linear: Rate | None = None, momentum: Rate) -> Method:
  """FSLA (Li, Gu, Huang 2022), which corrects the direction of alpha by its change on the same samples.

      w' = w − ρ ∂_w g(w),   v' = v − ρ_v (H v + ∂_w f) at w',   D(a, w', v') = C v' + ∂_a f
      d' = D(a, w', v') + (1 − η)(d − D(a_before, w, v)),   a' = a − γ d'

  Args:
    inner: ρ.
    linear: ρ_v; None: ρ.
    momentum: η. The first step takes 1.
  """
  linear = inner if linear is None else linear
  require_positive("fsla", inner=inner, linear=linear, momentum=momentum)

  def init(oracle, point, draws):
    del oracle, draws
    return optax.tree.zeros_like(point.weights), point.alpha, optax.tree.zeros_like(point.alpha)

  def step(oracle, point, draws):
    v, alpha_before, d = point.memory
    weights, alpha = point.weights, point.alpha
    gradient = oracle.inner_gradient(weights, alpha, draws.train())
    moved = descend(weights, rate_at(inner, point.step), gradient)
    value, to_weights, _ = oracle.outer_gradients(moved, alpha, draws.validation())
    new_v, residual = descend_linear(oracle, moved, alpha, draws.train(), v, to_weights, rate_at(linear, point.step))
    train, validation = draws.train(), draws.validation()

    def direction(weights, alpha, v):
      _, _, direct = oracle.outer_gradients(weights, alpha, validation)
      return hypergradient(oracle, weights, alpha, train, v, direct)

    now, before = direction(moved, alpha, new_v), direction(weights, alpha_before, v)
    d = recursive_momentum(now, d, before, momentum, point.step)
    found = {"outer_loss": value, "inner_gradient_norm": optax.tree.norm(gradient), "residual": residual}
    return Move(moved, d, (new_v, alpha, d), found)

  return Method(init, step)


def ttsa(*, inner: Rate, linear: Rate, terms: int, truncation: Truncation = "random") -> Method:
  """TTSA (Hong, Wai, Wang, Yang 2023): two time scales, with steps of alpha that fall faster than those of the weights
  (in the paper as `k^(−3/5)` and `k^(−2/5)`).

      w' = w − ρ ∂_w g,   a' = a − γ (∂_a f − C [terms · η Π_{i=1..p} (I − η H_i)] ∂_w f) at w'

  Args:
    inner: ρ.
    linear: η, at most 1 / L for a smoothness L of the inner loss.
    terms: number of terms of the series; p is drawn from 0..terms − 1.
    truncation: random, as in the paper; or full: its mean, the sum of all terms.
  """
  require_positive("ttsa", inner=inner, linear=linear)
  require_counts("ttsa", terms=terms)
  require_truncation("ttsa", truncation)

  def init(oracle, point, draws):
    del oracle, point, draws
    return ()

  def step(oracle, point, draws):
    gradient = oracle.inner_gradient(point.weights, point.alpha, draws.train())
    weights = descend(point.weights, rate_at(inner, point.step), gradient)
    series = draw_series(draws, terms - 1, truncation)
    scale = rate_at(linear, point.step)
    value, direction, found = neumann_hypergradient(oracle, weights, point.alpha, series, scale, terms - 1, truncation)
    return Move(
      weights, direction, (), {"outer_loss": value, "inner_gradient_norm": optax.tree.norm(gradient), **found}
    )

  return Method(init, step)


def present_directions(
  oracle: Oracle,
  weights: PyTree,
  alpha: PyTree,
  v: PyTree,
  train: Sample,
  validation: Sample,
  *,
  advance: bool = True,
) -> tuple[Directions, tuple[jax.Array, PyTree]]:
  """The directions on two samples; and f and `∂_w f`, for `report`."""
  gradient, image, cross = oracle.products(weights, alpha, train, v, advance=advance)
  value, to_weights, direct = oracle.outer_gradients(weights, alpha, validation)
  return Directions(gradient, optax.tree.add(image, to_weights), optax.tree.add(cross, direct)), (value, to_weights)


def report(directions: Directions, value: jax.Array, to_weights: PyTree) -> dict[str, jax.Array]:
  """The diagnostics of SOBA and its variants."""
  return {
    "outer_loss": value,
    "inner_gradient_norm": optax.tree.norm(directions.weights),
    "residual": relative_norm(directions.linear, to_weights),
  }


def recursive_momentum(now: PyTree, average: PyTree, before: PyTree, momentum: Rate, step: jax.Array) -> PyTree:
  """`now + (1 − momentum)(average − before)`, where `before` is the direction of the previous point on the samples of
  `now`. The first step has no average and returns `now`."""
  share = jnp.where(step == 0, 1.0, rate_at(momentum, step))
  return descend(now, share - 1, optax.tree.sub(average, before))
