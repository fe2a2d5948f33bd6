"""The state at the end of a search as a bilevel problem, for the study of hypergradients."""

import dataclasses

import jax
import numpy as np
import optax

from ruas_jax.config import Config
from ruas_jax.data.crops import random_crops
from ruas_jax.data.padded import padded
from ruas_jax.data.sources import ImageSource
from ruas_jax.engine.stream import make_batches
from ruas_jax.experiments.setting import search_setting
from ruas_jax.hypergradient_study.frozen import Frozen
from ruas_jax.nas.problem import Player
from ruas_jax.nas.state import SearchState
from ruas_jax.optimizers import OptimizerOptions, make_optimizer


def freeze(
  config: Config,
  state: SearchState,
  train: ImageSource,
  validation: ImageSource,
  *,
  module: str,
  smoothing: float,
  steps: int,
) -> Frozen:
  """The problem at `state` of the player that updates `module`.

  Args:
    config: configuration of the search; its seed selects the images and its crop is their size.
    state: last state of the search.
    train, validation: images at least as large as the crop.
    module: "illumination" or "denoising".
    smoothing: width of the rounded corners of the "smoothed" losses; the "raw" losses have sharp corners.
    steps: number of batches to prepare.
  """
  players = {
    "raw": player_of(config, module),
    "smoothed": player_of(config, module, smoothing=smoothing),
  }
  player = players["raw"]

  def problem_of(player: Player):
    return lambda others: player.bilevel_problem(*others, hyper={})

  return Frozen(
    problems={name: problem_of(player) for name, player in players.items()},
    make_inner=lambda rate: _with_rate(config.search.weight_optimizer, rate),
    rate=config.search.weight_optimizer.learning_rate,
    **jax.device_get(
      {
        "others": (state.weights, state.alpha),
        "alpha": player.pick(state.alpha),
        "weights": player.pick(state.weights),
        "inner_state": state.weight_state[player.name],
      }
    ),
    train_batches=_crops(config, train, steps, 0),
    val_batch=_crops(config, validation, 1, 1)[0],
  )


def player_of(config: Config, module: str, *, smoothing: float = 0.0) -> Player:
  """The search's player that updates `module`. `smoothing` is the width of its rounded corners; 0: sharp corners."""
  smoothed = config.with_overrides(
    {
      "network.smoothing": smoothing,
      "loss.charbonnier": 0.0,  # 0: it is equal to the network's smoothing
    }
  )
  players = search_setting(smoothed).problem.players
  return next(player for player in players if module in (player.modules or ()))


def _with_rate(options: OptimizerOptions, rate: float | jax.Array) -> optax.GradientTransformation:
  """The optimiser with a learning rate that may be traced; its state is that of `make_optimizer(options)`."""
  unit = make_optimizer(dataclasses.replace(options, learning_rate=1.0))

  def update(updates, state, params=None):
    updates, state = unit.update(updates, state, params)
    return jax.tree.map(lambda leaf: leaf * jax.numpy.asarray(rate, leaf.dtype), updates), state

  return optax.GradientTransformation(unit.init, update)


def _crops(config: Config, source: ImageSource, count: int, position: int) -> np.ndarray:
  """`count` batches of crops, float32 `[count, B, crop, crop, 3]`. `position` makes the seed of each source
  different."""
  size, seed = config.data.batch_size, 2 * config.seed + position
  stream = make_batches(padded(source), batch_size=count * size, seed=seed)
  try:
    data = config.data
    crops = random_crops(next(stream), jax.random.key(seed), crop=data.crop, vary_exposure=data.vary_exposure)
  finally:
    stream.close()
  return np.asarray(crops).reshape(count, size, *crops.shape[1:])
