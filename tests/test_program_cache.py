"""Traced programs that are kept: found again by what determines them, replaced where damaged, the same bits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ruas_jax.engine import program_cache
from ruas_jax.engine.device_loop import DeviceLoop
from ruas_jax.engine.metrics import StepMetrics


class State(NamedTuple):
  step: jax.Array
  weights: dict


class Numbers:
  """Feeds 1, 2, 3, ..."""

  data, pools, capacity, streams, batch_axes = jnp.float32(1), "numbers", 5, False, (0,)

  def __init__(self):
    self._next = 1

  def fetch(self, data, ticket):
    return (data * ticket,)

  def seek(self, step):
    self._next = 1 + step

  def read(self, count):
    numbers = np.zeros(self.capacity, np.float32)
    numbers[:count] = np.arange(self._next, self._next + count)
    self._next += count
    return numbers


class Step:
  """Counts how often it is traced."""

  traced = 0

  def __call__(self, state, batch, key):
    self.traced += 1
    noise = jax.random.normal(jax.random.fold_in(key, state.step))
    w = state.weights["w"]
    weights = state.weights | {"w": (w * 0.9 + batch + noise).astype(w.dtype)}
    scalars = {"size": jnp.abs(weights["w"]), "odd": state.step % 2 == 1}
    return State(state.step + 1, weights), {"x": StepMetrics({"train": batch}, scalars), "a": StepMetrics({"b": noise})}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  """An empty cache, turned on."""
  monkeypatch.delenv("RUAS_JAX_CACHE")
  before = jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", str(tmp_path))
  yield tmp_path
  jax.config.update("jax_compilation_cache_dir", before)


def run(*, identity="step", dtype=jnp.float32, largest_loss=1e6, steps=7):
  """How often the step was traced, the last state, and the log of the first call."""
  step = Step()
  state = State(jnp.int32(0), {"w": jnp.zeros((), dtype), "key": jax.random.key(3), "count": jnp.array(5)})
  loop = DeviceLoop(step, state, Numbers(), jax.random.key(1), largest_loss=largest_loss, identity=identity)
  first, *_ = list(loop.calls(steps))
  return step.traced, jax.device_get(loop.run.state), first.log


def entries(cache):
  return sorted(path.name for path in cache.glob("ruas_jax_program_*"))


def assert_same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    assert a.dtype == b.dtype
    if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
      a, b = map(jax.random.key_data, (a, b))
    np.testing.assert_array_equal(a, b)


def test_the_second_start_traces_nothing_and_has_the_same_bits(cache):
  plain_traced, *plain = run(identity=None)
  assert plain_traced == 1 and not entries(cache)
  traced, *first = run()
  assert traced == 1 and len(entries(cache)) == 1
  traced, *second = run()
  assert traced == 0 and len(entries(cache)) == 1
  assert_same(plain, first)
  assert_same(plain, second)


def test_what_determines_a_program_tells_entries_apart(cache, monkeypatch):
  assert run()[0] == 1
  for change in ({"identity": "another"}, {"dtype": jnp.bfloat16}, {"largest_loss": 1e7}):
    assert run(**change)[0] == 1
  with jax.default_matmul_precision("float32"):
    assert run()[0] == 1
  monkeypatch.setattr(program_cache, "_code", lambda: "other code")
  assert run()[0] == 1
  monkeypatch.setattr(program_cache, "versions", lambda: {"jax": "9.9"})
  assert run()[0] == 1
  assert len(entries(cache)) == 7
  assert run()[0] == 0


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "not JSON"])
def test_a_damaged_entry_is_replaced(damage, cache):
  _, *whole = run()
  (path,) = cache.glob("ruas_jax_program_*")
  content = path.read_bytes()
  flipped = bytearray(content)
  flipped[len(content) // 2] ^= 1
  path.write_bytes({"flip": bytes(flipped), "truncate": content[:-9], "empty": b"", "not JSON": b"x\ny"}[damage])
  traced, *again = run()
  assert traced == 1 and path.read_bytes()[:20] == content[:20]
  assert_same(whole, again)
  assert run()[0] == 0


def test_it_can_be_turned_off_and_needs_a_folder(cache, monkeypatch):
  monkeypatch.setenv("RUAS_JAX_CACHE", "off")
  assert [run()[0], run()[0]] == [1, 1] and not entries(cache)
  monkeypatch.delenv("RUAS_JAX_CACHE")
  jax.config.update("jax_compilation_cache_dir", None)
  assert [run()[0], run()[0]] == [1, 1]


def test_a_program_that_cannot_be_exported_runs_all_the_same(cache):
  """A callback cannot be written to a file."""
  seen = []

  class Printing(Step):
    def __call__(self, state, batch, key):
      jax.debug.callback(lambda value: seen.append(float(value)), batch)
      return super().__call__(state, batch, key)

  state = State(jnp.int32(0), {"w": jnp.float32(0)})
  list(DeviceLoop(Printing(), state, Numbers(), jax.random.key(1), identity="printing").calls(3))
  jax.effects_barrier()
  assert sorted(seen) == [1, 2, 3] and not entries(cache)
