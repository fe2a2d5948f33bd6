"""One step of a search as a pure function: every player updates its alpha by the hypergradient, then its weights."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ruas_jax.bilevel import inner_step, split_inexact, update_parameters
from ruas_jax.bilevel.losses import wrap
from ruas_jax.engine.metrics import Metrics, StepMetrics
from ruas_jax.nas.losses import naming
from ruas_jax.nas.options import SearchOptions
from ruas_jax.nas.problem import Player, SearchProblem
from ruas_jax.nas.schedule import moment
from ruas_jax.nas.state import Optimizers, SearchState

ALPHA_EVERY = 20
"""Steps between two records of alpha in the log."""
LARGEST_ALPHA = 1000
"""A larger alpha, in numbers, is not logged."""


def batches_per_step(problem: SearchProblem, options: SearchOptions) -> tuple[int, int]:
  """Number of training and validation batches that a step reads: those of the player with the longest inner loop."""
  iterations = max(player.length for player in problem.players)
  return iterations * options.unroll_steps, iterations


def make_search_step(problem: SearchProblem, options: SearchOptions, optimizers: Optimizers):
  """`step(state, train, validation, key, hyper) -> (state, Metrics)`, not jitted.

  `train` and `validation` are raw batches, `[N, B, ...]` with `N` from `batches_per_step`. `problem.sample` receives
  each with a key derived from `key` and the state's step.

  The metrics of a player:
    losses: `train`, and `validation` (the outer loss, if the estimator evaluates it).
    scalars: `iterations`; for an implicit estimator `residual` and `converged`; and the metrics of its losses, as
      `train_NAME` and `validation_NAME`; and the regularisers and the expected cost, without their weights.

  The metrics also have alpha after the first step and after every `ALPHA_EVERY`-th one, as `alpha_NAME`.
  """

  def step(state: SearchState, train: Any, validation: Any, key: jax.Array, hyper: Any) -> tuple[SearchState, Metrics]:
    of_weights, of_alpha = optimizers.at(hyper)
    estimator = options.estimator(of_weights)
    now = moment(problem, options, state.step, hyper)

    def iterate(player: Player, state: SearchState, train, validation, key) -> tuple[SearchState, StepMetrics]:
      """Updates alpha by the hypergradient, then the weights at the new alpha."""
      train_key, validation_key, estimator_key = jax.random.split(key, 3)
      train = jax.vmap(problem.sample)(train, jax.random.split(train_key, options.unroll_steps))
      validation = problem.sample(validation, validation_key)
      draw_key = jax.random.fold_in(estimator_key, 2) if now.relaxation.random else None
      bilevel = wrap(player.bilevel_problem(state.weights, state.alpha, hyper, now.relaxation, draw_key))
      if bilevel.inner_loss.keyed:
        loss_keys = jax.random.split(jax.random.fold_in(estimator_key, 1), options.unroll_steps + 1)
        train, validation = (train, loss_keys[1:]), (validation, loss_keys[0])
      weights, alpha = player.pick(state.weights), player.pick(state.alpha)
      weight_state, alpha_state = state.weight_state[player.name], state.alpha_state[player.name]

      def estimate(alpha):
        return estimator(bilevel, weights, alpha, weight_state, train, validation, key=estimator_key)

      out, outer_loss = estimate(alpha), lambda alpha: estimate(alpha).outer_loss
      value, gradient, terms = out.outer_loss, out.gradient, {}
      if penalty := now.penalty(problem, player, state.alpha):
        added, slope, terms = penalty.with_gradient(alpha)
        value, gradient = value + added, jax.tree.map(jnp.add, gradient, slope)
        outer_loss = lambda alpha: estimate(alpha).outer_loss + penalty(alpha)[0]
      new_alpha, new_alpha_state = update_parameters(
        of_alpha, gradient, alpha_state, alpha, value=value, value_fn=outer_loss
      )
      if now.alpha_moves is not True:
        moved, kept = (new_alpha, new_alpha_state), (alpha, alpha_state)
        new_alpha, new_alpha_state = lax.cond(now.alpha_moves, lambda: moved, lambda: kept)
      first = jax.tree.map(lambda leaf: leaf[0], train)
      new_weights, weight_state, loss = inner_step(bilevel, of_weights, weights, new_alpha, weight_state, first)
      scalars = {name: out.diagnostics[name] for name in ("residual", "converged") if name in out.diagnostics}
      for side, more in (
        ("train", bilevel.inner_loss.metrics(weights, new_alpha, first)),
        ("validation", bilevel.outer_loss.metrics(out.weights, alpha, validation)),
      ):
        scalars |= {f"{side}_{name}": value for name, value in more.items()}
      scalars |= terms
      return state._replace(
        weights=player.merge(state.weights, new_weights),
        alpha=player.merge(state.alpha, new_alpha),
        weight_state=state.weight_state | {player.name: weight_state},
        alpha_state=state.alpha_state | {player.name: new_alpha_state},
      ), StepMetrics({"train": loss, "validation": out.outer_loss}, scalars)

    def play(player: Player, state: SearchState, train, validation, key) -> tuple[SearchState, StepMetrics]:
      """The player's inner loop ("while not converged" in Algorithm 1)."""
      unroll = options.unroll_steps

      def iteration(index, state):
        batches = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, index * unroll, unroll), train)
        held_out = jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, index, keepdims=False), validation)
        return iterate(player, state, batches, held_out, jax.random.fold_in(key, index))

      length = player.length_at(state.step)
      if isinstance(length, int) and length == 1:  # the usual case: no loop to compile
        state, metrics = iteration(0, state)
        return state, _counted(metrics, jnp.ones((), jnp.int32))
      tolerance = player.tolerance(hyper) if player.tolerance else options.tolerance

      def unfinished(carry):
        index, previous, _, metrics = carry
        change = jnp.abs(metrics.losses["train"] - previous)
        converged = (index >= 2) & (change < tolerance * jnp.abs(previous))
        return (index < length) & ~converged

      def body(carry):
        index, _, state, metrics = carry
        state, new = iteration(index, state)
        return index + 1, metrics.losses["train"], state, new

      _, shapes = jax.eval_shape(iteration, jnp.zeros((), jnp.int32), state)
      nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
      start = (jnp.zeros((), jnp.int32), nothing.losses["train"], state, nothing)
      index, _, state, metrics = lax.while_loop(unfinished, body, start)
      return state, _counted(metrics, index)

    step_key = jax.random.fold_in(key, state.step)
    metrics = {}
    for position, player in enumerate(problem.players):
      with naming(player.name):
        player_key = jax.random.fold_in(step_key, position)
        state, metrics[player.name] = play(player, state, train, validation, player_key)
    state = state._replace(step=state.step + 1)
    return state, _alpha_of(state) | metrics

  return step


def _alpha_of(state: SearchState) -> dict[str, StepMetrics]:
  """Alpha as metrics; empty for a large alpha, which would fill the log."""
  leaves = jax.tree.leaves_with_path(split_inexact(state.alpha)[0])
  if sum(leaf.size for _, leaf in leaves) > LARGEST_ALPHA:
    return {}
  named = {jax.tree_util.keystr(path, simple=True, separator=".") or "0": leaf for path, leaf in leaves}
  return {"alpha": StepMetrics({}, named, (state.step == 1) | (state.step % ALPHA_EVERY == 0))}


def _counted(metrics: StepMetrics, iterations: jax.Array) -> StepMetrics:
  return metrics._replace(scalars=metrics.scalars | {"iterations": iterations}, active=iterations > 0)
