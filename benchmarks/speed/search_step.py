"""The search step of the speed benchmarks: one update of a module's alpha by eq. 5 and one of its weights.

It is the released code's problem (forward pass, losses, optimisers) on random dark images, so that a PyTorch program
can do the same work. No file is needed.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.config import Config
from ruas_jax.data.options import DataOptions
from ruas_jax.data.sources import ImageArrays
from ruas_jax.engine.device_loop import Run, make_program
from ruas_jax.engine.feed import DeviceFeed, PopulationFeed, open_feed
from ruas_jax.engine.mesh import Layout
from ruas_jax.experiments.setting import as_elements, search_setting
from ruas_jax.lowlight.loss_options import LossOptions
from ruas_jax.lowlight.options import RELEASED
from ruas_jax.lowlight.search_options import RUASSearchOptions
from ruas_jax.nas.data import readings_of
from ruas_jax.nas.problem import Player
from ruas_jax.nas.setting import Setting

IMAGES = 8  # in each set
MODULES = ("illumination", "denoising")
EPOCHS, IMAGES_PER_EPOCH = 20, 689  # of the paper's search


class Problem(NamedTuple):
  """Attributes:
  config: configuration of the search.
  players: the modules that are updated.
  state: first state of the search.
  step: `(state, train, validation, key) -> (state, metrics)`.
  feed: images in device memory.
  """

  config: Config
  players: tuple[Player, ...]
  state: Any
  step: Any
  feed: Any


def search_config(size: int, hypergradient: str = "unrolled") -> Config:
  """A configuration with crops of `size` pixels a side, one in a step."""
  return Config(
    network=RELEASED,
    loss=LossOptions(illumination="released", denoising="released"),
    data=DataOptions(crop=size),
    search=RUASSearchOptions(hypergradient=hypergradient),
  )


def resized(config: Config, *, stages: int, crop: int) -> Config:
  """The configuration with this number of stages in both modules and crops of this size."""
  return config.with_overrides({"data.crop": crop} | {f"network.{name}.stages": stages for name in MODULES})


def dark_images(size: int, seed: int) -> ImageArrays:
  """uint8 images slightly larger than the crop, smooth with noise."""
  rng = np.random.default_rng(seed)
  side = size + 16
  coarse = rng.integers(0, 80, (IMAGES, -(-side // 16), -(-side // 16), 3)).repeat(16, 1).repeat(16, 2)
  noise = rng.integers(0, 16, (IMAGES, side, side, 3))
  images = (coarse[:, :side, :side] + noise).astype(np.uint8)
  return ImageArrays([f"image_{index}" for index in range(IMAGES)], list(images))


def build_problem(size: int, modules: tuple[str, ...] = MODULES, hypergradient: str = "unrolled") -> Problem:
  """The search of these modules; with both, a whole round."""
  return problem_of(search_config(size, hypergradient), modules)


def problem_of(config: Config, modules: tuple[str, ...] = MODULES) -> Problem:
  """The search of any configuration, on the same images."""
  setting = setting_of(config, modules)
  state = jax.jit(setting.init)(jax.random.key(config.seed))
  return Problem(config, setting.problem.players, state, step_of(setting), open_problem_feed(config, config.seed))


def setting_of(config: Config, modules: tuple[str, ...] | None = None) -> Setting:
  """The search with these players; None: all players."""
  setting = search_setting(config)
  players = tuple(player for player in setting.problem.players if modules is None or player.name in modules)
  return dataclasses.replace(setting, problem=dataclasses.replace(setting.problem, players=players))


def step_of(setting: Setting) -> Callable:
  """`step(state, train, validation, key) -> (state, metrics)`."""
  take = setting.step()
  return lambda state, train, validation, key: take(state, train, validation, key, setting.problem.hyper)


def open_problem_feed(config: Config, seed: int) -> DeviceFeed:
  """Two sets of images in device memory, in the order of this seed."""
  sides = [as_elements(config, dark_images(config.data.crop, number)) for number in (0, 1)]
  of_run = {"batch_size": config.data.batch_size, "seed": seed}
  readings = readings_of(search_setting(config).problem, config.search, *sides, **of_run)
  return open_feed(readings, placement="device")


class Runner:
  """Runs the problem as the package does, with many steps in one call of one program. With `members`, it is a
  population with one seed per member."""

  def __init__(self, problem: Problem, members: int | None = None):
    run, key, self._feed = Run(problem.state, jnp.ones((), bool)), jax.random.key(1), problem.feed
    if members is not None:
      run = jax.tree.map(lambda leaf: jnp.stack([leaf] * members), run)
      self._feed = PopulationFeed([open_problem_feed(problem.config, seed) for seed in range(members)])
      key = jax.random.split(key, members)
    layout = Layout(members=members)
    self._run, self._key = layout.put(jax.tree.map(jnp.array, (run, key)), layout.per_member)
    self._data = layout.put(self._feed.data, layout.everywhere)
    self._program = make_program(problem.step, self._feed, layout, members=members)

  def compile(self) -> float:
    """Compiles the program before its first call. Returns the seconds of tracing, lowering and compiling."""
    start = time.perf_counter()
    self._program = self._program.lower(*self._arguments(1)).compile()
    self._feed.seek(0)
    return time.perf_counter() - start

  @property
  def text(self) -> str:
    """The program after `compile`, as XLA writes it."""
    return self._program.as_text()

  @property
  def state(self) -> Any:
    """A copy of the newest state; for a population, with an axis of members."""
    return jax.tree.map(jnp.array, self._run.state)

  def _arguments(self, steps: int) -> tuple:
    return self._run, self._data, self._feed.read(steps), np.int32(steps), self._key

  def __call__(self, steps: int) -> None:
    """Takes this number of steps and waits for them."""
    self._run, log = self._program(*self._arguments(steps))
    if not log.sound[:steps].all():
      raise RuntimeError("a loss is not finite")


def extrapolated_search(run: Runner, steps: int, in_call: int) -> dict:
  """Hours of the paper's search, extrapolated from this number of steps in a row, with logging as in the package."""
  run(1)  # compiles
  start = time.perf_counter()
  for _ in range(steps // in_call):
    run(in_call)
  seconds = (time.perf_counter() - start) / (steps // in_call * in_call)
  total = EPOCHS * IMAGES_PER_EPOCH
  return {"steps_measured": steps, "seconds_per_step": seconds, "steps": total, "hours": seconds * total / 3600}
