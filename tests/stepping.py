"""The search step of some players, for tests that take single steps."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from ruas_jax.data.crops import random_crops
from ruas_jax.engine.metrics import columns_of
from ruas_jax.lowlight.players import make_players
from ruas_jax.nas.problem import SearchProblem
from ruas_jax.nas.state import Optimizers, init_state
from ruas_jax.nas.step import make_search_step


def players_of(options, objectives, beta, *, relaxed=True):
  """RUAS's players with these losses, which receive mixing weights, or alpha itself."""
  players = make_players(options, lambda hyper: (objectives, beta))
  return tuple(dataclasses.replace(player, relaxed=relaxed) for player in players)


def problem_of(network, players, crop):
  """The search problem of these players over the network's weights and alpha."""

  def init(key):
    dtype = jnp.result_type(float)
    return network.init_weights(key, dtype), network.init_alpha(dtype)

  def sample(raw, key):
    return random_crops(raw, key, crop=crop, dtype=jnp.result_type(float))

  return SearchProblem(init, players, sample)


def step_of(problem, options, weight_optimizer, alpha_optimizer):
  """`(step, init)`: `step(state, train, validation, key) -> (state, metrics as the log has them)`, `init(key)`."""
  optimizers = Optimizers(weight_optimizer, alpha_optimizer)
  take = make_search_step(problem, options, optimizers)

  def step(state, train, validation, key):
    state, metrics = take(state, train, validation, key, problem.hyper)
    return state, flat(metrics)

  return step, functools.partial(init_state, problem, optimizers, hyper=problem.hyper)


def flat(metrics):
  """The metrics of a step by their names in the log."""
  return {name: value for part, own in metrics.items() for name, value in columns_of(part, own).items()}


def first_state(init):
  """That of key 0."""
  return init(jax.random.key(0))
