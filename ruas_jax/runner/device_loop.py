"""Many steps in one call of one program: they are fed, taken and recorded on the device.

The program is compiled once, for any number of steps up to the feed's capacity, and its state is donated. It stops by
itself at the first step with a loss or new weights that are not finite: that step is recorded, and the state stays as
it was before it. A population is the same program with the step mapped over its members, which are shared out over the
devices; each stops for itself.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from ruas_jax.data.feed import Feed
from ruas_jax.runtime.compiler import compiler_options
from ruas_jax.runtime.mesh import POPULATION, on_mesh, population_mesh

_CALL_SECONDS = 2.5  # that a call should take: the log is to move every five seconds at the latest


class Run(NamedTuple):
  """What a call hands to the next.

  Attributes:
    state: of the search or training; with members, a leading axis on every leaf.
    sound: bool `[]` or `[P]`, whether all was finite so far; where not, nothing moves any more.
  """

  state: Any
  sound: jax.Array


class Log(NamedTuple):
  """What steps left, each array `[steps]` or `[steps, P]`.

  Attributes:
    metrics: by name.
    taken: bool, whether the step was taken.
    sound: bool, whether all was finite in it and before.
  """

  metrics: dict[str, Any]
  taken: Any
  sound: Any


def make_program(step: Callable, feed: Feed, *, mesh: Mesh | None = None) -> Callable:
  """`advance(run, images, elements, count, key) -> (run, log)` by `count` steps, jitted; `run` is donated.

  Args:
    step: `(state, *batches, key) -> (state, metrics)`; the state has `weights`, and metrics that end in `_loss` count
      as losses.
    feed: whose `fetch` makes batches of an element.
    mesh: of a population, whose run, elements and key have an axis of members, for each of which `step` works.
  """

  def one(run, images, element, key):
    state, metrics = step(run.state, *feed.fetch(images, element), key)
    losses = [value for name, value in metrics.items() if name.endswith("_loss")]
    sound = run.sound & _all_finite((losses, state.weights))
    state = lax.cond(sound, lambda: state, lambda: run.state)  # a choice for each leaf would be a kernel for each
    return Run(state, sound), Log(metrics, run.sound, sound)

  # Jitted, so that it is traced once for its shapes and for the loop.
  one = jax.jit(_over_members(one, at_once=jax.default_backend() != "cpu") if mesh else one)

  def advance(run, images, elements, count, key):
    def element(index):
      return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, index, keepdims=False), elements)

    def unfinished(loop):
      index, run, _ = loop
      return (index < count) & run.sound.any()

    def body(loop):
      index, run, log = loop
      run, new = one(run, images, element(index), key)
      log = jax.tree.map(lambda rows, row: lax.dynamic_update_index_in_dim(rows, row, index, 0), log, new)
      return index + 1, run, log

    _, shapes = jax.eval_shape(one, run, images, element(0), key)
    log = jax.tree.map(lambda shape: jnp.zeros((feed.capacity, *shape.shape), shape.dtype), shapes)
    _, run, log = lax.while_loop(unfinished, body, (jnp.zeros((), jnp.int32), run, log))
    return run, log

  if mesh:
    own, all_own = PartitionSpec(POPULATION), PartitionSpec(None, POPULATION)
    everyones = PartitionSpec()
    advance = jax.shard_map(
      advance,
      mesh=mesh,
      in_specs=(own, everyones, all_own, everyones, own),
      out_specs=(own, all_own),
      check_vma=False,  # no device hears of another
    )
  return jax.jit(advance, donate_argnums=0, compiler_options=compiler_options())


def _over_members(one: Callable, *, at_once: bool) -> Callable:
  """`one` for every member of a device: all at once, or one after the other where the cache is small, as on a CPU."""
  if at_once:
    return jax.vmap(one, in_axes=(0, None, 0, 0))

  def each(run, images, element, key):
    return lax.map(lambda own: one(own[0], images, *own[1:]), (run, element, key))

  return each


class DeviceLoop:
  """Calls of the program, one always under way while the log of the one before is read.

  Attributes:
    run: the newest; it belongs to the call that was yielded only where that ended at a multiple of `every`, or was the
      last.
  """

  def __init__(self, step: Callable, state: Any, feed: Feed, key: Any, *, members: int | None = None):
    """`state` is not used up; `members` is the length of its leading axis, where it has one."""
    self._feed, self._key, self._images = feed, key, feed.images
    self._fetch = jax.jit(feed.fetch)
    self._element: Any = None
    # A copy, since it is donated; without weak types, which would make the second call another program.
    state = jax.tree.map(lambda leaf: jnp.array(leaf, leaf.dtype), state)
    self.run = Run(state, jnp.ones(() if members is None else (members,), bool))
    mesh = None if members is None else population_mesh(members)
    if mesh:
      self.run, self._key = on_mesh((self.run, key), mesh, POPULATION)
      self._images = on_mesh(feed.images, mesh)
    self._program = make_program(step, feed, mesh=mesh)

  def calls(self, steps: int, *, every: int = 0) -> Iterator[tuple[int, Log]]:
    """Takes `steps` steps; yields each call's first step, counted from one, and its log as numpy arrays.

    At multiples of `every` a call ends, and the next one begins only when the caller goes on.
    """
    done, most, under_way, last = 0, 1, [], time.monotonic()
    while done < steps or under_way:
      looked_at = every and done % every == 0 and under_way  # the caller wants to, so the state must not move on
      if done < steps and len(under_way) < 2 and not looked_at:
        count = min(most, self._feed.capacity, steps - done, every - done % every if every else steps)
        elements = self._feed.read(count)
        self.run, log = self._program(self.run, self._images, elements, np.int32(count), self._key)
        self._element = jax.tree.map(lambda leaf: leaf[count - 1], elements) if every else None
        under_way.append((done + 1, count, log))
        done += count
        continue
      first, count, log = under_way.pop(0)
      log = jax.tree.map(lambda rows: np.asarray(rows)[:count], log)
      seconds = max(time.monotonic() - last, 1e-6)
      most = max(1, min(2 * count, int(count * _CALL_SECONDS / seconds)))
      yield first, log
      last = time.monotonic()

  def batches(self) -> tuple:
    """What the last step of the newest call was fed with; only where there is an `every`."""
    return self._fetch(self._images, self._element)


def _all_finite(tree: Any) -> jax.Array:
  """Of the floating leaves, all at once: small kernels add up."""
  leaves = [leaf.ravel() for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
  return jnp.isfinite(jnp.concatenate(leaves)).all()
