"""Additional measurements of a search: the terms of the hypergradient, the curvature in alpha, statistics of alpha; and
the early-stopping rule of RobustDARTS."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ruas_jax.bilevel.diagnostics import decompose, outer_curvature, summarize
from ruas_jax.nas.losses import naming, wrap
from ruas_jax.nas.options import SearchOptions
from ruas_jax.nas.problem import SearchProblem
from ruas_jax.nas.state import Optimizers, SearchState


def make_diagnostics(
  problem: SearchProblem, options: SearchOptions, optimizers: Optimizers
) -> Callable[[SearchState, Any, Any, jax.Array], dict[str, jax.Array]]:
  """`diagnose(state, train, validation, key) -> metrics`, not jitted.

  `train` is as in a step. `validation` is the same with `options.diagnostics.batches` batches on its leading axis.

  The metrics are the problem's `statistics` of alpha, and for each player X:
    `X_hessian_eigenvalues`, `X_hessian_spread`: `[n]`, of the outer loss with respect to alpha (`bilevel.Curvature`).
    `X_hessian_largest`: the largest eigenvalue.
    `X_direct_norm` and the other scalars of `bilevel.summarize`: the terms through `unroll_steps` inner steps.
  """

  def sample_all(batches, key):
    count = jax.tree.leaves(batches)[0].shape[0]
    return jax.vmap(problem.sample)(batches, jax.random.split(key, count))

  def diagnose(state: SearchState, train: Any, validation: Any, key: jax.Array) -> dict[str, jax.Array]:
    metrics = problem.statistics(state.alpha)
    key = jax.random.fold_in(key, state.step)
    train = sample_all(jax.tree.map(lambda leaf: leaf[: options.unroll_steps], train), jax.random.fold_in(key, 0))
    validation = sample_all(validation, jax.random.fold_in(key, 1))
    of_weights, _ = optimizers.at(problem.hyper)
    for position, player in enumerate(problem.players):
      bilevel = wrap(player.bilevel_problem(state.weights, state.alpha, problem.hyper))
      batches, held_out = train, validation
      if bilevel.inner_loss.keyed:
        of_train, of_validation = jax.random.split(jax.random.fold_in(key, 2 + position))
        batches = (train, jax.random.split(of_train, options.unroll_steps))
        held_out = (validation, jax.random.split(of_validation, options.diagnostics.batches))
      weights, alpha = player.pick(state.weights), player.pick(state.alpha)
      with naming(player.name):
        first = jax.tree.map(lambda leaf: leaf[0], held_out)
        terms = decompose(bilevel, of_weights, weights, alpha, state.weight_state[player.name], batches, first)
        curvature = outer_curvature(bilevel, weights, alpha, held_out)
      found = summarize(terms) | {
        "hessian_largest": curvature.eigenvalues[-1],
        "hessian_eigenvalues": curvature.eigenvalues,
        "hessian_spread": curvature.spread,
      }
      metrics |= {f"{player.name}_{name}": value for name, value in found.items()}
    return metrics

  return diagnose


def rises_fast(eigenvalues: Sequence[float], *, window: int, threshold: float) -> bool:
  """Whether the largest eigenvalue grows fast, by the rule of RobustDARTS (Zela et al. 2020, section 4.3).

  It does when the mean of `window` measurements ago is smaller than `threshold` times the mean of the last `window`.
  """
  if len(eigenvalues) < 2 * window:
    return False
  now, before = np.mean(eigenvalues[-window:]), np.mean(eigenvalues[-2 * window : -window])
  return bool(now > 0 and before < threshold * now)
