"""The search step that the speed benchmarks time: one module's alpha update by eq. 5 and its weights' update.

It is the released code's problem (forward pass, losses, optimisers) on random dark images, so that a PyTorch program
can do the same work; no file is needed.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from ruas_jax.architecture_search.step import make_search_step
from ruas_jax.architecture_search.strategies import Player
from ruas_jax.config import Config, DataOptions
from ruas_jax.data.feed import open_feed
from ruas_jax.data.sources import ImageArrays
from ruas_jax.objectives import LossOptions
from ruas_jax.retinex.network import RELEASED
from ruas_jax.runner.device_loop import Run, make_program
from ruas_jax.runner.setting import describe, readings_of

IMAGES = 8  # of each set
MODULES = ("illumination", "denoising")


class Problem(NamedTuple):
  """Attributes:
  config: of the search.
  players: the modules that move.
  state: the search's first.
  step: `(state, train, validation, key) -> (state, metrics)`.
  feed: images on the device.
  """

  config: Config
  players: tuple[Player, ...]
  state: Any
  step: Any
  feed: Any


def search_config(size: int, hypergradient: str = "unrolled") -> Config:
  """Crops of `size` pixels a side, one in a step."""
  config = Config(
    network=RELEASED,
    loss=LossOptions(illumination="released", denoising="released"),
    data=DataOptions(crop=size),
  )
  return dataclasses.replace(config, search=dataclasses.replace(config.search, hypergradient=hypergradient))


def dark_images(size: int, seed: int) -> ImageArrays:
  """uint8 images a little larger than the crop, smooth with noise."""
  rng = np.random.default_rng(seed)
  side = size + 16
  coarse = rng.integers(0, 80, (IMAGES, -(-side // 16), -(-side // 16), 3)).repeat(16, 1).repeat(16, 2)
  noise = rng.integers(0, 16, (IMAGES, side, side, 3))
  images = (coarse[:, :side, :side] + noise).astype(np.uint8)
  return ImageArrays([f"image_{index}" for index in range(IMAGES)], list(images))


def build_problem(size: int, modules: tuple[str, ...] = MODULES, hypergradient: str = "unrolled") -> Problem:
  """The search of these modules; of both, a whole round."""
  config = search_config(size, hypergradient)
  players, weight_optimizer, alpha_optimizer, init = describe(config)
  players = tuple(player for player in players if player.name in modules)
  step = make_search_step(players, config.search, weight_optimizer, alpha_optimizer, crop=size)
  readings = readings_of(config, dark_images(size, 0), dark_images(size, 1))
  feed = open_feed(readings, crop=size, placement="device")
  return Problem(config, players, jax.jit(init)(jax.random.key(config.seed)), step, feed)


class Runner:
  """The problem as the package runs it: many steps in one call of one program."""

  def __init__(self, problem: Problem):
    self._feed, self._program = problem.feed, make_program(problem.step, problem.feed)
    self._run = Run(jax.tree.map(jax.numpy.array, problem.state), jax.numpy.ones((), bool))

  def __call__(self, steps: int) -> None:
    """Takes so many steps and waits for them."""
    elements = self._feed.read(steps)
    self._run, log = self._program(self._run, self._feed.images, elements, np.int32(steps), jax.random.key(1))
    if not log.sound[:steps].all():
      raise RuntimeError("a loss is not finite")
