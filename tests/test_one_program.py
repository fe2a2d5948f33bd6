"""A search in float64: the same steps one by one, as one program fed from the device or streamed, in a population."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stepping import flat
from tiny_problem import FEW, dark_images, get_config

from ruas_jax.data.padded import padded
from ruas_jax.data.sources import ImageArrays, split_in_half
from ruas_jax.engine import device_loop
from ruas_jax.engine.mesh import map_members
from ruas_jax.engine.mesh_options import MeshOptions
from ruas_jax.engine.run_options import RunOptions
from ruas_jax.engine.stream import make_batches
from ruas_jax.experiments import population
from ruas_jax.experiments.population import search_population
from ruas_jax.experiments.search import search
from ruas_jax.experiments.setting import search_setting
from ruas_jax.sweep import PopulationOptions

pytestmark = pytest.mark.usefixtures("x64_module")
STEPS = 20
SWEEP = ("loss.eta_t=0.01,0.3", "search.alpha_optimizer.weight_decay=0,0.01")
IMAGES = ImageArrays([str(position) for position in range(7)], dark_images(7))


def config_of(*, seed=0, eta_t=0.01, weight_decay=0.0, placement="auto"):
  return get_config().with_overrides(
    {
      "seed": seed,
      "loss.eta_t": eta_t,
      "data.placement": placement,
      "search.steps": STEPS,
      "search.alpha_optimizer.weight_decay": weight_decay,
    }
  )


@pytest.fixture(scope="module")
def alone(x64_module):
  """The search with this configuration, alone."""
  return functools.cache(lambda config: search(config, train_images=IMAGES, operations=FEW))


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch):
  """Populations over the same few operations."""
  monkeypatch.setattr(population, "CANDIDATES", FEW)
  monkeypatch.setattr(population, "search_setting", functools.partial(search_setting, operations=FEW))


def assert_same(one, other, relative):
  """Every leaf by its largest number; losses one by one."""
  assert jax.tree.structure(one.state) == jax.tree.structure(other.state)
  for a, b in zip(jax.tree.leaves(one.state), jax.tree.leaves(other.state), strict=True):
    assert a.dtype == b.dtype and a.dtype != jnp.float32
    assert np.abs(a - b).max() <= relative * np.abs(a).max()
  assert [record["step"] for record in one.metrics] == list(range(1, STEPS + 1))
  for a, b in zip(one.metrics, other.metrics, strict=True):
    assert a.keys() <= b.keys()  # alpha is only in the records of some steps
    for name, value in a.items():
      assert np.asarray(value) == pytest.approx(np.asarray(b[name]), rel=relative), name


def step_by_step(config):
  """Written out: one call for a step, on batches that the host reads."""
  train, validation = split_in_half(IMAGES, seed=config.seed)
  setting = search_setting(config, operations=FEW)
  step = jax.jit(lambda *arguments: setting.step()(*arguments, {}))
  init_key, step_key = jax.random.split(jax.random.key(config.seed))
  state, metrics = jax.jit(setting.init)(init_key), []
  halves = enumerate((train, validation))
  streams = [make_batches(padded(half), batch_size=1, seed=2 * config.seed + position) for position, half in halves]
  for index in range(1, STEPS + 1):
    batches = [{name: values[None] for name, values in next(stream).items()} for stream in streams]
    state, new = step(state, *batches, step_key)
    metrics.append({"step": index} | {name: value.tolist() for name, value in flat(new).items()})
  for stream in streams:
    stream.close()
  return state, metrics


def test_one_program_takes_the_steps_of_single_calls(alone):
  found = alone(config_of())
  state, metrics = step_by_step(config_of())
  assert_same(found, found._replace(state=state, metrics=metrics), 1e-12)


def test_images_on_the_device_and_streamed_ones_give_the_same_steps(alone):
  """The halves have 4 and 3 images, so batches cross the ends of epochs at different steps."""
  assert_same(alone(config_of()), alone(config_of(placement="stream")), 1e-12)


def test_a_member_is_the_search_with_its_settings(alone, monkeypatch):
  """Also where a device takes its members at once, as an accelerator does."""
  monkeypatch.setattr(device_loop, "map_members", functools.partial(map_members, at_once=True))
  found = search_population(config_of(), PopulationOptions(seeds=2, sweep=SWEEP), train_images=IMAGES)
  settings = [(eta_t, decay, seed) for eta_t in (0.01, 0.3) for decay in (0.0, 0.01) for seed in (0, 1)]
  assert [(*member.values.values(), member.config.seed) for member in found.members] == settings
  for position in (0, 7):  # each value of each axis
    eta_t, decay, seed = settings[position]
    config = config_of(seed=seed, eta_t=eta_t, weight_decay=decay)
    assert found.members[position].config == config
    assert_same(found.results[position], alone(config), 1e-9)
  alphas = [np.concatenate(list(result.state.alpha.values())) for result in found.results]
  apart = [np.abs(a - b).max() for i, a in enumerate(alphas) for b in alphas[:i]]
  assert min(apart) > 1e-6  # no two settings are one


def test_a_member_ends_its_inner_loops_as_the_search_with_its_tolerance(alone):
  """With one player and on one device, which compiles sooner."""
  config = config_of().with_overrides({"search.strategy": "joint", "search.illumination_length": 4})
  members, alike = PopulationOptions(sweep=("search.tolerance=0,0.1",)), RunOptions(mesh=MeshOptions(population=1))
  found = search_population(config, members, run=alike, train_images=IMAGES)
  full, ended = ([record["joint_iterations"] for record in result.metrics] for result in found.results)
  assert set(full) == {4} and min(ended) < 4
  assert_same(found.results[1], alone(found.members[1].config), 1e-9)
