"""The loop on the device, on a step of one number: how many calls it makes, what it keeps, and where it stops."""

import functools
import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from tiny_problem import dark_images, get_config

from ruas_jax.bilevel import ESTIMATORS
from ruas_jax.data.sources import ImageArrays
from ruas_jax.engine import device_loop
from ruas_jax.engine.device_loop import DeviceLoop
from ruas_jax.engine.loop import iterate
from ruas_jax.engine.mesh import DATA, POPULATION, Layout, map_members
from ruas_jax.engine.mesh_options import MeshOptions
from ruas_jax.engine.metric_log import read_metrics
from ruas_jax.engine.metrics import StepMetrics
from ruas_jax.engine.records import make_records, split
from ruas_jax.engine.run_folder import RunFolder
from ruas_jax.engine.run_options import RunOptions
from ruas_jax.engine.snapshots import Snapshots
from ruas_jax.errors import UserError
from ruas_jax.experiments.population import search_population
from ruas_jax.experiments.search import search
from ruas_jax.nas.convergence import _REMEDIES, ConvergenceWatch
from ruas_jax.sweep import PopulationOptions


class State(NamedTuple):
  step: jax.Array
  weights: jax.Array


class Numbers:
  """Feeds 1, 2, 3, ...; of members, to each its own multiple of them."""

  data, capacity, streams, batch_axes = jnp.float32(1), 5, False, (0,)

  def __init__(self, members=None):
    self.calls, self._members, self._next = [], members, 1

  def fetch(self, data, ticket):
    return (data * ticket,)

  def seek(self, step):
    self._next = 1 + step

  def read(self, count):
    self.calls.append(count)
    numbers = np.full(self.capacity, np.nan, np.float32)
    numbers[:count] = np.arange(self._next, self._next + count)
    self._next += count
    with np.errstate(over="ignore"):
      return numbers if self._members is None else numbers[:, None] * np.asarray(self._members, np.float32)


class Step:
  """Adds the batch and the key to the weights, and counts how often it is traced; the loss is what it adds to."""

  traced = 0

  def __call__(self, state, batch, key):
    self.traced += 1
    metrics = {"x": StepMetrics({"train": state.weights}), "y": StepMetrics({"train": batch}, active=batch > 2)}
    return State(state.step + 1, state.weights + batch + key), metrics


@pytest.fixture
def quick(monkeypatch):
  """Calls that seem to take no time, so that their lengths are what they are allowed to be."""
  monkeypatch.setattr(device_loop.time, "monotonic", lambda: 0.0)


class Looks:
  """An observer that looks every third step and stops at the ninth."""

  every = 3

  def __init__(self):
    self.seen, self.stopped = [], [False]

  def __call__(self, state, batches, going):
    assert going == [True]
    self.seen.append((int(state.step), float(state.weights), float(batches[0])))
    self.stopped = [int(state.step) == 9]
    return [{"more": jnp.float32(state.step)}]


def run(step, feed, key=0.0, *, steps, state=None, folder=None, **arguments):
  """The last state and the records of a single run."""
  loop = DeviceLoop(step, state or start(), feed, jnp.float32(key))
  run_folder = RunFolder(folder, RunOptions(), {})
  outcome = iterate(loop, steps=steps, description="run", run_folder=run_folder, **arguments)
  return outcome.state, outcome.records[0]


def start(*shape):
  return State(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32))


def test_one_program_for_calls_of_every_length(quick):
  feed, step = Numbers(), Step()
  state, records = run(step, feed, 0.5, steps=20)
  assert sum(feed.calls) == 20 and set(feed.calls) >= {1, 2, 4, 5} and max(feed.calls) == feed.capacity
  assert step.traced == 1
  sums = [0.5 * (k - 1) + k * (k - 1) / 2 for k in range(1, 22)]
  assert [record["x_train_loss"] for record in records] == sums[:20]
  assert [record["step"] for record in records] == list(range(1, 21))
  assert (float(state.weights), int(state.step)) == (sums[20], 20)
  assert set(records[1]) == {"step", "x_train_loss"}  # y did not play


def test_a_slow_step_is_taken_alone(monkeypatch):
  """A clock that moves by four seconds whenever it is asked."""
  clock = iter(range(0, 10**6, 4))
  monkeypatch.setattr(device_loop.time, "monotonic", lambda: float(next(clock)))
  feed = Numbers()
  run(Step(), feed, steps=6)
  assert feed.calls == [1] * 6


def test_the_state_given_is_left_alone():
  state = start()
  run(Step(), Numbers(), steps=3, state=state)
  assert float(state.weights) == 0


def test_the_observer_sees_its_rounds_and_can_stop(quick):
  looks = Looks()
  state, records = run(Step(), Numbers(), steps=20, observer=looks)
  assert looks.seen == [(3, 6.0, 3.0), (6, 21.0, 6.0), (9, 45.0, 9.0)]
  assert [record.get("more") for record in records] == [None, None, 3.0, None, None, 6.0, None, None, 9.0]
  assert float(state.weights) == 45


class Ends:
  """An observer of a population that looks every second step, and ends each member when its weights are large."""

  every = 2

  def __init__(self, members):
    self.seen, self.stopped = [], [False] * members

  def __call__(self, state, batches, going):
    self.seen.append(going)
    self.stopped = [bool(weights > 30) or over for weights, over in zip(state.weights, self.stopped, strict=True)]
    return [{"weights": weights} if goes else {} for weights, goes in zip(state.weights, going, strict=True)]


def test_an_observer_ends_members_of_a_population_one_by_one(quick):
  """The second fails at step 2. The third ends at step 4 and the first at step 8, which is the end of the run."""
  factors = [1.0, 2e38, 4.0]
  ends, feed = Ends(3), Numbers(factors)
  loop = DeviceLoop(Step(), start(3), feed, jnp.zeros(3), members=3, largest_loss=jnp.inf)
  folder = RunFolder(None, RunOptions(largest_loss=float("inf")), {})
  outcome = iterate(loop, steps=20, description="run", run_folder=folder, members=[None] * 3, observer=ends)
  assert ends.seen == [[True, False, True]] * 2 + [[True, False, False]] * 2
  assert [len(records) for records in outcome.records] == [8, 2, 4] and sum(feed.calls) == 8
  assert [failure is None for failure in outcome.failures] == [True, False, True]
  np.testing.assert_array_equal(outcome.state.weights, np.float32([36, 2e38, 40]))
  assert [record.get("weights") for record in outcome.records[2]] == [None, 12.0, None, 40.0]


class Failing(Step):
  """Its loss, or else its weights, are not finite in the fourth step."""

  def __init__(self, what):
    self.what = what

  def __call__(self, state, batch, key):
    state, metrics = super().__call__(state, batch, key)
    wrong = jnp.where(state.step == 4, jnp.nan, 0.0)
    if self.what == "weights":
      return state._replace(weights=state.weights + wrong), metrics
    return state, metrics | {"x": StepMetrics({"train": metrics["x"].losses["train"] + wrong})}


@pytest.mark.parametrize(
  "what, said",
  [
    ("loss", "run: the x train loss is not finite at step 4"),
    ("weights", "run: the weights are not finite after step 4"),
  ],
)
def test_the_first_step_that_is_not_finite_is_the_last_one(what, said, quick, tmp_path):
  with pytest.raises(UserError, match=f"^{said}$"):
    run(Failing(what), Numbers(), steps=20, folder=tmp_path)
  losses = [record["x_train_loss"] for record in read_metrics(tmp_path / "metrics.jsonl")]
  assert losses == [0, 1, 3, None if what == "loss" else 6]


def test_the_state_stays_before_the_bad_step_and_later_calls_do_nothing(quick):
  loop = DeviceLoop(Failing("loss"), start(), Numbers(), jnp.float32(0))
  logs = [make_records(call.first, call.log) for call in loop.calls(20)]
  assert [len(records) for records, _ in logs] == [1, 1, 2] + [0] * (len(logs) - 3) and len(logs) > 5
  assert [failure for _, failure in logs if failure] == ["the x train loss is not finite at step 4"]
  assert (int(loop.run.state.step), float(loop.run.state.weights), bool(loop.run.sound)) == (3, 6, False)


@pytest.fixture(params=["one after the other", "at once"])
def members_of_a_device(request, monkeypatch):
  """How a device takes its members: as a CPU does, or as an accelerator."""
  mapped = functools.partial(map_members, at_once=request.param == "at once")
  monkeypatch.setattr(device_loop, "map_members", mapped)


@pytest.mark.parametrize("members, devices", [(3, 1), (4, 2)])
def test_a_member_stops_for_itself(members, devices, members_of_a_device, quick):
  """The second meets an infinity in its second step."""
  factors = [1.0, 2e38, 2.0, 3.0][:members]
  loop = DeviceLoop(Step(), start(members), Numbers(factors), jnp.zeros(members), members=members, largest_loss=jnp.inf)
  records, failures = [[] for _ in factors], [[] for _ in factors]
  for call in loop.calls(12):
    for position, log in enumerate(split(call.log, members)):
      new, failure = make_records(call.first, log, largest_loss=jnp.inf)
      records[position] += new
      failures[position] += [failure] if failure else []
  assert len(loop.run.state.weights.devices()) == devices
  assert failures == [[], ["the y train loss is not finite at step 2"], [], []][:members]
  assert [len(own) for own in records] == [12, 2, 12, 12][:members]
  np.testing.assert_array_equal(loop.run.state.weights, np.float32([78, 2e38, 156, 234])[:members])
  np.testing.assert_array_equal(loop.run.state.step, [12, 1, 12, 12][:members])
  np.testing.assert_array_equal(loop.run.sound, [True, False, True, True][:members])


def test_a_member_that_has_ended_is_not_computed_on_a_cpu(quick):
  factors, computed = [1.0, 2e38, 2.0], []  # the second one ends at its second step

  def step(state, number, key):
    jax.debug.callback(lambda value: computed.append(float(value)), number)
    return Step()(state, number, key)

  loop = DeviceLoop(step, start(3), Numbers(factors), jnp.zeros(3), members=3, largest_loss=jnp.inf)
  for _ in loop.calls(4):
    pass
  jax.effects_barrier()
  assert sorted(computed) == [1, 2, 2, 3, 4, 4, 6, 8, float(np.float32(2e38)), np.inf]


@pytest.mark.parametrize("members, devices", [(1, 1), (2, 2), (3, 1), (6, 2)])
def test_members_are_shared_out_evenly(members, devices):
  assert Layout(members=members).mesh.shape == {POPULATION: devices, DATA: 1}


@pytest.mark.parametrize(
  "options, things, said",
  [
    (MeshOptions(population=2), {"members": 3}, "`mesh.population` 2 does not divide the population of 3; choose"),
    (MeshOptions(population=2), {}, "`mesh.population` 2 does not divide the population of 1; choose"),
    (MeshOptions(data=2), {"batch_size": 3}, "`mesh.data` 2 does not divide `data.batch_size` 3; choose"),
    (MeshOptions(data=4), {"batch_size": 4}, "`mesh.population` 1 and `mesh.data` 4 need 4 devices, but there are 2"),
  ],
)
def test_what_the_mesh_does_not_divide_is_one_line(options, things, said):
  with pytest.raises(UserError, match=f"^{said}"):
    Layout(options, **things)


def test_a_loss_that_explodes_stops_the_run_at_its_step(quick):
  loop = DeviceLoop(Step(), start(), Numbers(), jnp.float32(0), largest_loss=20.0)
  logs = [make_records(call.first, call.log, largest_loss=20.0) for call in loop.calls(12)]
  said = "the x train loss is 21 at step 7, above `largest_loss` 20"
  assert [failure for _, failure in logs if failure] == [said]
  assert float(loop.run.state.weights) == 21


def test_a_snapshot_is_the_run_at_its_step_and_another_loop_goes_on_from_there(quick):
  loop = DeviceLoop(Step(), start(), Numbers(), jnp.float32(0))
  taken = {call.first + len(call.log.taken) - 1: call.snapshot for call in loop.calls(17, snapshot_every=6)}
  assert [step for step, snapshot in taken.items() if snapshot] == [6, 12, 17]
  assert [float(taken[step].state.weights) for step in (6, 12, 17)] == [21, 78, 153]
  other = DeviceLoop(Step(), start(), Numbers(), jnp.float32(0))
  other.resume_from(jax.device_get(taken[12]), 12)
  first, *_ = other.calls(17)
  assert first.first == 13
  assert (float(other.run.state.weights), other.done) == (153, 17)


def test_a_wish_to_stop_is_heard_between_two_calls(quick):
  loop, wishes = DeviceLoop(Step(), start(), Numbers(), jnp.float32(0)), iter([False, False, True])
  steps = [call.first + len(call.log.taken) - 1 for call in loop.calls(50, stop=lambda: next(wishes))]
  assert loop.done == steps[-1] == 2 and float(loop.run.state.weights) == 3


@pytest.mark.parametrize("members", [None, 2])
def test_constant_leaves_pass_through_the_loop_and_its_snapshots(members, quick, tmp_path):
  """Counters and PRNG keys, old and new, among weights."""

  def step(state, batch, key):
    moved = state.weights | {"w": state.weights["w"] + batch + key}
    return State(state.step + 1, moved), {"x": StepMetrics({"train": moved["w"]})}

  constant = {"count": jnp.array(2**30 + 1), "key": jax.random.key(3), "old_key": jax.random.PRNGKey(5)}
  stack = lambda leaf: leaf if members is None else jnp.stack([leaf] * members)
  weights = jax.tree.map(stack, constant | {"w": jnp.float32(0)})
  begin = lambda: DeviceLoop(
    step,
    State(stack(jnp.int32(0)), weights),
    Numbers(members and (1, 1)),
    stack(jnp.float32(0)),
    members=members,
  )
  loop = begin()
  *_, last = loop.calls(4, snapshot_every=4)
  with Snapshots(epath.Path(tmp_path), keep=1) as snapshots:
    snapshots.write(4, last.snapshot, {})
  shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), loop.run)
  other = begin()
  other.resume_from(snapshots.at(4).read(shapes), 4)
  for run in (loop.run, other.run):
    np.testing.assert_array_equal(run.state.weights["w"], stack(np.float32(10)))
    for name, leaf in constant.items():
      assert run.state.weights[name].dtype == leaf.dtype
      assert (run.state.weights[name] == stack(leaf)).all()
  list(other.calls(5))
  np.testing.assert_array_equal(other.run.state.weights["w"], stack(np.float32(15)))


@pytest.mark.parametrize("members", [None, 2])
def test_a_hypergradient_that_does_not_converge_is_said_once_and_logged(members, quick, tmp_path, capfd):
  """Booleans pass through the program's log, its members and metrics.jsonl; the run goes on."""

  def step(state, batch, key):
    scalars = {"converged": (batch < 3) | (key > 0), "residual": 1e9 * batch}
    return State(state.step + 1, state.weights + batch), {"x": StepMetrics({"train": batch}, scalars)}

  stack = lambda value: jnp.float32(value) if members is None else jnp.array([1, value], jnp.float32)
  state = State(jnp.zeros_like(stack(0), dtype=jnp.int32), jnp.zeros_like(stack(0)))
  loop = DeviceLoop(step, state, Numbers(members and (1, 1)), stack(0), members=members)
  names = members and ["member_000", "member_001"]
  folders = [epath.Path(tmp_path) / name for name in names or [""]]
  for folder in folders:
    folder.mkdir(exist_ok=True)
  iterate(
    loop,
    steps=5,
    description="search",
    run_folder=RunFolder(folders[0], RunOptions(), {}),
    members=folders if members else None,
    watch=ConvergenceWatch("neumann", names),
  )
  (line,) = capfd.readouterr().err.splitlines()
  where = " in member_001" if members else ""
  assert line.startswith(f"ruas: search: the hypergradient of x did not converge at step 3{where} (neumann, ")
  assert "residual 3e+09" in line and "search.hypergradient_options" in line and "scale" in line
  converged = [[record["x_converged"] for record in read_metrics(folder / "metrics.jsonl")] for folder in folders]
  assert converged == [[True] * 5] * (len(folders) - 1) + [[True, True, False, False, False]]


def test_what_to_change_are_options_that_the_estimators_have():
  for name, remedy in _REMEDIES.items():
    options = set(inspect.signature(ESTIMATORS[name]).parameters)
    assert {word for word in remedy.split() if word not in ("a", "or", "larger", "smaller", "more")} <= options


def test_searches_and_populations_are_watched(monkeypatch, capfd):
  class Begun(Exception):
    pass

  def begun(loop, *, watch, **_):
    watch([[{"step": 1, "x_converged": False, "x_residual": 2.0}]])
    raise Begun

  damped = {"search.hypergradient": "cg", "search.hypergradient_options": ("damping=0.1",)}
  config = get_config().with_overrides(damped)
  images = ImageArrays([str(number) for number in range(4)], dark_images(4))
  for module, begin in (
    ("one_search", functools.partial(search, config)),
    ("population", functools.partial(search_population, config, PopulationOptions(seeds=2))),
  ):
    monkeypatch.setattr(f"ruas_jax.nas.{module}.iterate", begun)
    with pytest.raises(Begun):
      begin(train_images=images)
    (line,) = capfd.readouterr().err.splitlines()
    assert "did not converge at step 1" in line and "(cg, residual 2)" in line
