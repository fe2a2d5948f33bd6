"""One round of Algorithm 1 as a pure function of (state, batches, key)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ruas_jax.architecture_search.options import SearchOptions
from ruas_jax.architecture_search.state import SearchState
from ruas_jax.architecture_search.strategies import Player
from ruas_jax.bilevel import inner_step, split_inexact, update_parameters
from ruas_jax.data.crops import random_crops

Metrics = dict[str, jax.Array]


def batches_per_round(options: SearchOptions) -> tuple[int, int]:
  """How many train and validation batches a round reads."""
  iterations = max(options.illumination_length, options.denoising_length)
  return iterations * options.unroll_steps, iterations


def make_search_step(
  players: tuple[Player, ...],
  options: SearchOptions,
  weight_optimizer: optax.GradientTransformation,
  alpha_optimizer: optax.GradientTransformation,
  *,
  crop: int,
  vary_exposure: float = 0.0,
):
  """`step(state, train, validation, key) -> (state, metrics)`, to be jitted once by the caller.

  `train` and `validation` are whole images, `{"image": uint8 [N, B, H, W, 3], "size": int32 [N, B, 2]}` with `N` from
  `batches_per_round`; crops of `crop` pixels a side are drawn from `key` and the state's step, some with another
  exposure (`random_crops`). Metrics are scalars:
  each player's training loss, validation loss (its outer loss where the estimator evaluates it) and iterations, and of
  an implicit estimator its residual and whether that converged, a boolean.
  """
  estimator = options.estimator(weight_optimizer)

  def iterate(player: Player, state: SearchState, train, validation, key) -> tuple[SearchState, Metrics]:
    """Lines 5-6 (10-11): alpha by the hypergradient, then the weights at the new alpha."""
    train_key, validation_key, estimator_key = jax.random.split(key, 3)
    dtype = jax.tree.leaves(split_inexact(state.weights)[0])[0].dtype
    cut = functools.partial(random_crops, crop=crop, dtype=dtype, vary_exposure=vary_exposure)
    train = jax.vmap(cut)(train, jax.random.split(train_key, options.unroll_steps))
    validation = cut(validation, validation_key)
    problem = player.problem(state.weights, state.alpha)
    weights, alpha = player.pick(state.weights), player.pick(state.alpha)
    weight_state, alpha_state = state.weight_state[player.name], state.alpha_state[player.name]

    def estimate(alpha):
      return estimator(problem, alpha, weights, weight_state, train, validation, key=estimator_key)

    out, outer_loss = estimate(alpha), lambda alpha: estimate(alpha).outer_loss
    alpha, alpha_state = update_parameters(
      alpha_optimizer, out.gradient, alpha_state, alpha, value=out.outer_loss, value_fn=outer_loss
    )
    solved = {name: out.diagnostics[name] for name in ("residual", "converged") if name in out.diagnostics}
    weights, weight_state, loss = inner_step(problem, weight_optimizer, alpha, weights, weight_state, train[0])
    return state._replace(
      weights=state.weights | weights,
      alpha=state.alpha | alpha,
      weight_state=state.weight_state | {player.name: weight_state},
      alpha_state=state.alpha_state | {player.name: alpha_state},
    ), {"train_loss": loss, "validation_loss": out.outer_loss} | solved

  def play(player: Player, state: SearchState, train, validation, key) -> tuple[SearchState, Metrics]:
    """The player's "while not converged" loop."""
    unroll = options.unroll_steps

    def iteration(index, state):
      own = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, index * unroll, unroll), train)
      held_out = jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, index, keepdims=False), validation)
      return iterate(player, state, own, held_out, jax.random.fold_in(key, index))

    length = player.length(state.step)
    if isinstance(length, int) and length == 1:  # the usual round: no loop to compile
      state, metrics = iteration(0, state)
      return state, metrics | {"iterations": jnp.ones((), jnp.int32)}

    def unfinished(carry):
      index, previous, _, metrics = carry
      change = jnp.abs(metrics["train_loss"] - previous)
      converged = (index >= 2) & (change < options.tolerance * jnp.abs(previous))
      return (index < length) & ~converged

    def body(carry):
      index, _, state, metrics = carry
      state, new = iteration(index, state)
      return index + 1, metrics["train_loss"], state, new

    _, shapes = jax.eval_shape(iteration, jnp.zeros((), jnp.int32), state)
    nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    start = (jnp.zeros((), jnp.int32), nothing["train_loss"], state, nothing)
    index, _, state, metrics = lax.while_loop(unfinished, body, start)
    return state, metrics | {"iterations": index}

  def step(state: SearchState, train: Any, validation: Any, key: jax.Array) -> tuple[SearchState, Metrics]:
    round_key = jax.random.fold_in(key, state.step)
    metrics = {}
    for position, player in enumerate(players):
      state, own = play(player, state, train, validation, jax.random.fold_in(round_key, position))
      metrics |= {f"{player.name}_{name}": value for name, value in own.items()}
    return state._replace(step=state.step + 1), metrics

  return step
