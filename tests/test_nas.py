"""The search engine on problems that are not RUAS: against formulas, from its data to its files, and on bad input."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import two_players

from ruas_jax import nas
from ruas_jax.engine import feed as feed_file
from ruas_jax.engine.metric_log import read_metrics
from ruas_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
RATE, ALPHA_RATE = 0.1, 0.05
SGD = {"weight_optimizer": optax.sgd(RATE), "alpha_optimizer": optax.sgd(ALPHA_RATE)}


def init(key):
  return {"w": jax.random.normal(key, (3,))}, {"edge": jnp.array([[0.1, 0.2, 0.3]]), "rate": jnp.array(0.5)}


def inner(weights, alpha, batch):
  return jnp.mean((batch @ weights["w"]) ** 2) + jnp.sum((weights["w"] - alpha["edge"][0]) ** 2)


def outer(weights, alpha, batch):
  return jnp.mean((batch @ weights["w"] - 1) ** 2) * alpha["rate"]


def problem_of(inner=inner, outer=outer, **others):
  return nas.SearchProblem(init, (nas.Player("cell", nas.BilevelProblem(inner, outer)),), **others)


def numbers(count=8, seed=0):
  return np.random.default_rng(seed).normal(size=(count, 3)).astype(jnp.result_type(float))


def assert_near(one, other, relative):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=relative), one, other)


def search(problem=None, *, steps=3, options=None, **arguments):
  given = {"train": numbers(), "validation": numbers(seed=1), "batch_size": 8} | SGD | arguments
  return nas.search(problem or problem_of(), options=options or nas.SearchOptions(steps=steps), **given)


def test_steps_are_their_formulas():
  """Batches hold all data, so that their order does not matter."""
  with jax.enable_x64(True):
    found = search(steps=4)
    weights, alpha = jax.jit(init)(jax.random.split(jax.random.key(0))[0])
    train, validation = numbers(), numbers(seed=1)
    descend = lambda tree, gradient, rate: jax.tree.map(lambda leaf, slope: leaf - rate * slope, tree, gradient)
    for record in found.metrics:
      ahead = lambda alpha, weights=weights: descend(weights, jax.grad(inner)(weights, alpha, train), RATE)
      value, gradient = jax.value_and_grad(lambda alpha: outer(ahead(alpha), alpha, validation))(alpha)
      alpha = descend(alpha, gradient, ALPHA_RATE)
      assert record["cell_validation_loss"] == pytest.approx(float(value), rel=1e-12)
      assert record["cell_train_loss"] == pytest.approx(float(inner(weights, alpha, train)), rel=1e-12)
      weights = descend(weights, jax.grad(inner)(weights, alpha, train), RATE)
    assert_near((found.weights, found.alpha), (weights, alpha), 1e-12)
    assert found.derived == {"edge": [int(np.argmax(alpha["edge"][0]))], "rate": float(found.alpha["rate"])}


def test_losses_may_take_a_key_and_return_metrics():
  def noisy(weights, alpha, batch, key):
    return inner(weights, alpha, batch), {"noise": jax.random.uniform(key)}

  def measured(weights, alpha, batch):
    return outer(weights, alpha, batch), {"size": jnp.sum(weights["w"] ** 2)}

  found, plain = search(problem_of(noisy, measured)), search()
  for name in ("weights", "alpha"):
    jax.tree.map(np.testing.assert_array_equal, getattr(found, name), getattr(plain, name))
  noise = [record["cell_train_noise"] for record in found.metrics]
  assert len(set(noise)) == 3 and all(0 <= value < 1 for value in noise)
  assert all(record["cell_validation_size"] > 0 for record in found.metrics)
  again = search(problem_of(noisy, measured))
  assert again.metrics == found.metrics


def test_sample_makes_the_batches_with_a_key_of_its_own():
  def sample(raw, key):
    return raw["numbers"] + 0 * jax.random.normal(key, raw["numbers"].shape)

  data = [{"numbers": row} for row in numbers()], [{"numbers": row} for row in numbers(seed=1)]
  found = search(problem_of(sample=sample), train=Rows(data[0]), validation=Rows(data[1]))
  plain = search()
  assert_near(found.weights, plain.weights, 1e-6)


class Rows:
  """Elements by number, as a data set of another library has them."""

  def __init__(self, rows):
    self.rows = rows

  def __len__(self):
    return len(self.rows)

  def __getitem__(self, index):
    return self.rows[index]


def test_streamed_data_give_the_same_search(monkeypatch):
  kept = search(batch_size=4, train=Rows(list(numbers())))
  monkeypatch.setattr(feed_file, "_DEVICE_BYTES", 1)
  streamed = search(batch_size=4, train=Rows(list(numbers())))
  jax.tree.map(np.testing.assert_array_equal, kept.state, streamed.state)


def test_without_validation_data_training_data_are_halved():
  """By the seed; no element is in both halves."""
  seen = {"train": set(), "validation": set()}

  def note(side):
    return lambda batch: jax.debug.callback(lambda rows: seen[side].update(rows[:, 0].tolist()), batch)

  def watched(loss, side):
    return lambda weights, alpha, batch: (note(side)(batch), loss(weights, alpha, batch))[1]

  problem = problem_of(watched(inner, "train"), watched(outer, "validation"))
  search(problem, validation=None, batch_size=2, steps=4)
  jax.effects_barrier()
  assert len(seen["train"]) == len(seen["validation"]) == 4 and not seen["train"] & seen["validation"]


def test_diagnostics_stop_a_search_and_go_back(tmp_path):
  diagnostics = nas.DiagnosticsOptions(every=1, batches=2, window=1, threshold=1.0)

  def sharper(weights, alpha, batch):  # its curvature in alpha grows
    return jnp.mean(batch**2) + jnp.exp(jnp.sum(alpha["edge"] ** 2)) + 0 * alpha["rate"]

  options = nas.SearchOptions(steps=9, stop="eigenvalue", diagnostics=diagnostics)
  up = {"alpha_optimizer": optax.sgd(-ALPHA_RATE)}
  found = search(problem_of(outer=sharper), options=options, workdir=tmp_path, **up)
  assert [record["step"] for record in found.metrics] == [1, 2]
  assert found.metrics[-1]["early_stop"] == 1 and "edge_entropy" in found.metrics[-1]
  one_step = search(problem_of(outer=sharper), steps=1, **up)
  assert_near(found.alpha, one_step.alpha, 1e-6)


def test_a_run_folder_and_a_resumed_search(tmp_path):
  whole = search(steps=4, workdir=tmp_path / "whole")
  search(steps=2, workdir=tmp_path / "run")
  resumed = search(steps=4, workdir=tmp_path / "run")
  jax.tree.map(np.testing.assert_array_equal, whole.state, resumed.state)
  assert whole.metrics == resumed.metrics
  assert json.loads((tmp_path / "run" / "derived.json").read_text()) == whole.derived
  assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 4
  config = json.loads((tmp_path / "run" / "config.json").read_text())
  assert config["search"]["steps"] == 4 and config["batch_size"] == 8
  for change in ({"seed": 1}, {"batch_size": 4}, {"train": numbers(9)}, {"options": nas.SearchOptions(unroll_steps=2)}):
    with pytest.raises(UserError, match="belongs to another configuration"):
      search(workdir=tmp_path / "run", **change)


def test_members_of_a_population_are_searches_with_their_numbers():
  with jax.enable_x64(True):
    found = two_players.population(None)
    settings = [(member.seed, member.values["penalty"]) for member in found.members]
    assert settings == [(0, 0.1), (1, 0.1), (0, 0.5), (1, 0.5)]
    for (seed, penalty), result in zip(settings, found.results, strict=True):
      alone = nas.search(
        dataclasses.replace(two_players.problem(), hyper={"penalty": penalty}),
        train=two_players.data(),
        options=nas.SearchOptions(steps=two_players.STEPS),
        batch_size=4,
        seed=seed,
        weight_optimizer=optax.sgd(0.02, momentum=0.9),
        alpha_optimizer=optax.adam(0.05),
      )
      assert_near(alone.state, result.state, 1e-9)
      assert alone.derived == result.derived and alone.weights["count"] == 7
      assert set(alone.metrics[0]) == set(result.metrics[0]) >= {"two_train_size", "one_validation_loss"}


# Bad input: one clear line each.


def broken(path, alpha=None, weights=None):
  """A problem whose init has other alpha or weights."""

  def other(key):
    base = init(key)
    return base[0] if weights is None else weights, base[1] if alpha is None else alpha

  return dataclasses.replace(problem_of(), init=other)


def two(*players):
  return dataclasses.replace(problem_of(), players=players)


PLAYER = nas.Player("cell", nas.BilevelProblem(inner, outer))
BAD = {
  "alpha without a float": (
    lambda: search(broken("alpha", alpha={"edge": jnp.arange(3)})),
    r"player 'cell': alpha has no floating leaf.*int32\[3\]",
  ),
  "complex weights": (
    lambda: search(broken("weights", weights={"w": jnp.ones(3, jnp.complex64)})),
    r"player 'cell': weights\['w'\] is complex64\[3\]",
  ),
  "a vector for a loss": (
    lambda: search(problem_of(outer=lambda weights, alpha, batch: batch @ weights["w"])),
    r"player 'cell': BilevelProblem.outer_loss must return one real number.*float32\[8\]",
  ),
  "two of a name": (lambda: two(PLAYER, PLAYER), "two players are named 'cell'"),
  "nobody": (lambda: two(), "needs at least one player"),
  "a module that is not there": (
    lambda: search(two(dataclasses.replace(PLAYER, modules=("v",)))),
    "player 'cell' has the module 'v', but weights has only 'w'",
  ),
  "other data for validation": (
    lambda: search(validation={"x": numbers()}),
    "train and validation have different structures",
  ),
  "other shapes for validation": (
    lambda: search(validation=numbers()[:, :2]),
    r"train is float32\[3\] and validation is float32\[2\]",
  ),
  "a batch larger than the data": (
    lambda: search(batch_size=9),
    "`batch_size` 9 is larger than the train data, which have 8",
  ),
  "leading axes that differ": (
    lambda: search(train={"x": numbers(3), "y": numbers(4)}),
    r"train: all arrays must have the same leading axis.*train\['x'\] 3, train\['y'\] 4",
  ),
  "no data": (lambda: search(train=numbers(0)), "train: holds no element"),
  "data of a strange kind": (lambda: search(train=3), "train: must be a pytree of arrays or have __len__"),
  "elements that differ": (
    lambda: search(train=Rows([np.zeros(3, np.float32)] * 7 + [np.zeros(4, np.float32)])),
    r"element 7: is float32\[4\], but other elements have float32\[3\]",
  ),
  "a number that is not there": (
    lambda: nas.search_population(problem_of(hyper={"c": 1.0}), train=numbers(), seeds=2, sweep={"d": (1.0, 2.0)}),
    "`sweep` d: the problem's hyper has no such number; it has c",
  ),
  "no seed": (lambda: nas.search_population(problem_of(), train=numbers(), seeds=0), "at least one seed"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name):
  action, said = BAD[name]
  with pytest.raises((UserError, nas.ProblemError), match=said) as error:
    action()
  assert "\n" not in str(error.value)


def test_a_value_that_decides_about_the_program_cannot_be_swept():
  def chooses(weights, alpha, hyper):
    return nas.BilevelProblem(inner if hyper["c"] > 1 else outer, outer)

  problem = dataclasses.replace(two(nas.Player("cell", chooses)), hyper={"c": 1.0})
  with pytest.raises(UserError, match=r"^`sweep` c: cannot be swept, because Python code depends on its value"):
    nas.search_population(problem, train=numbers(), sweep={"c": (1.0, 2.0)})


def test_a_derive_that_raises_loses_nothing(tmp_path):
  def derive(alpha):
    return alpha["nothing"]

  said = r"^the problem's derive raised KeyError: 'nothing'\. The search's last state is in .*state"
  with pytest.raises(UserError, match=said) as error:
    search(problem_of(derive=derive), workdir=tmp_path)
  assert "\n" not in str(error.value)
  assert search(workdir=tmp_path).derived  # its snapshots are whole


def test_a_loss_that_is_not_finite_names_the_step_and_the_snapshot(tmp_path):
  def bad(weights, alpha, batch):
    return outer(weights, alpha, batch) / (jnp.abs(alpha["rate"] - 0.5) < 0.1)

  said = r"^search: the cell \w+ loss is not finite at step \d+; the last good checkpoint is .*/0000\d\d$"
  with pytest.raises(UserError, match=said):
    search(problem_of(outer=bad), workdir=tmp_path, steps=50)


BLOCKED = """
import importlib.abc, runpy, sys
class Blocked(importlib.abc.MetaPathFinder):
  names = [f"ruas_jax.{room}" for room in ("lowlight", "data", "photos", "photos", "evaluation", "plots", "config")]
  def find_spec(self, name, path=None, target=None):
    if any(name == blocked or name.startswith(blocked + ".") for blocked in self.names):
      raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
program, sys.argv = sys.argv[1], sys.argv[1:]
runpy.run_path(program, run_name="__main__")
unused = ("matplotlib", "grain", "tensorflow_datasets", "tyro")
assert not [name for name in sys.modules if name.split(".")[0] in unused]
"""


def alone(*arguments):
  """A program in a process that cannot import RUAS; its exit code and its lines."""
  done = subprocess.run([sys.executable, "-c", BLOCKED, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT)
  return done.returncode, done.stdout.splitlines(), done.stderr


def test_the_engine_needs_nothing_of_ruas(tmp_path):
  """The example runs; a population of two players is killed in a write, resumed, and ends with the same bits."""
  code, lines, said = alone(ROOT / "examples" / "search_digits.py", "--quick")
  assert code == 0 and lines[-1].endswith("better than their mean"), said
  program = pathlib.Path(two_players.__file__)
  code, lines, said = alone(program, tmp_path / "run", "--kill", 5)
  assert code == -9 and not [line for line in lines if line.startswith("{")]
  code, resumed, said = alone(program, tmp_path / "run")
  assert code == 0 and "resuming after step 4" in said
  code, whole, said = alone(program, tmp_path / "whole")
  found = [[line for line in lines if line.startswith("{")] for lines in (resumed, whole)]
  assert code == 0 and len(found[0]) == 4 and found[0] == found[1]
