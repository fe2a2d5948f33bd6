"""What a search measures of itself: its hypergradient's terms, the curvature in alpha, where alpha goes; and the
early-stopping rule of RobustDARTS."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ruas_jax.architecture_search.options import SearchOptions
from ruas_jax.architecture_search.state import SearchState
from ruas_jax.architecture_search.strategies import Player
from ruas_jax.bilevel.diagnostics import decompose, outer_curvature, summarize
from ruas_jax.data.crops import random_crops


def alpha_statistics(alpha: dict[str, jax.Array], operation_names: Sequence[str]) -> dict[str, jax.Array]:
  """For each module: `X_skip_share`, the mean over edges of skip's softmax share (1/7 when undecided; a rise towards
  one is DARTS' collapse), and `X_entropy`, the mean over edges of the shares' entropy in nats."""
  statistics = {}
  for module, logits in alpha.items():
    log_shares = jax.nn.log_softmax(logits)
    shares = jnp.exp(log_shares)
    skips = np.asarray([name == "skip" for name in operation_names])
    statistics[f"{module}_skip_share"] = jnp.sum(shares[:, skips], axis=1).mean()
    statistics[f"{module}_entropy"] = -jnp.sum(shares * log_shares, axis=1).mean()
  return statistics


def make_diagnostics(
  players: tuple[Player, ...],
  options: SearchOptions,
  weight_optimizer: optax.GradientTransformation,
  operation_names: Sequence[str],
  *,
  crop: int,
  vary_exposure: float = 0.0,
) -> Callable[[SearchState, Any, Any, jax.Array], dict[str, jax.Array]]:
  """`diagnose(state, train, validation, key) -> metrics`, to be jitted once by the caller.

  `train` is as in a step, `validation` alike with `options.diagnostics.batches` batches for its leading axis.
  Metrics are `alpha_statistics` and, for each player X, `X_hessian_eigenvalues` and `X_hessian_spread` `[n]` (of the
  outer loss in its alpha, `bilevel.Curvature`), the largest eigenvalue by itself as `X_hessian_largest`, and the
  scalars of `bilevel.summarize` as `X_direct_norm` and so on: the terms through `unroll_steps` inner steps.
  """

  def crops_of_all(batches, key):
    keys = jax.random.split(key, batches["image"].shape[0])
    return jax.vmap(functools.partial(random_crops, crop=crop, vary_exposure=vary_exposure))(batches, keys)

  def diagnose(state: SearchState, train: Any, validation: Any, key: jax.Array) -> dict[str, jax.Array]:
    metrics = alpha_statistics(state.alpha, operation_names)
    key = jax.random.fold_in(key, state.step)
    images = crops_of_all(jax.tree.map(lambda leaf: leaf[: options.unroll_steps], train), jax.random.fold_in(key, 0))
    held_out = crops_of_all(validation, jax.random.fold_in(key, 1))
    for player in players:
      problem = player.problem(state.weights, state.alpha)
      weights, alpha = player.pick(state.weights), player.pick(state.alpha)
      terms = decompose(problem, weight_optimizer, alpha, weights, state.weight_state[player.name], images, held_out[0])
      curvature = outer_curvature(problem, alpha, weights, held_out)
      own = summarize(terms) | {
        "hessian_largest": curvature.eigenvalues[-1],
        "hessian_eigenvalues": curvature.eigenvalues,
        "hessian_spread": curvature.spread,
      }
      metrics |= {f"{player.name}_{name}": value for name, value in own.items()}
    return metrics

  return diagnose


def rises_fast(eigenvalues: Sequence[float], *, window: int, threshold: float) -> bool:
  """The rule of RobustDARTS (Zela et al. 2020, section 4.3) on the largest eigenvalues measured so far: the mean of the
  last `window` has grown so much that the one `window` measurements earlier is below `threshold` times it."""
  if len(eigenvalues) < 2 * window:
    return False
  now, before = np.mean(eigenvalues[-window:]), np.mean(eigenvalues[-2 * window : -window])
  return bool(now > 0 and before < threshold * now)
