"""Many steps in one call of one program: they are fed, taken and recorded on the device.

The program is compiled once, for any number of steps up to the feed's capacity, and its state is donated. It stops by
itself at the first step with a loss or new weights that are not finite, or with a loss that has exploded: that step is
recorded, and the state stays as it was before it. A population is the same program with the step mapped over its
members, which are shared out over the devices; each stops for itself.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ruas_jax.engine.compiler import compiler_options
from ruas_jax.engine.feed import Feed
from ruas_jax.engine.mesh import Layout
from ruas_jax.engine.metrics import Metrics, losses_of
from ruas_jax.engine.run_options import LARGEST_LOSS

_CALL_SECONDS = 2.5  # that a call should take: the log is to move every five seconds at the latest


class Run(NamedTuple):
  """What a call hands to the next.

  Attributes:
    state: of the search or training; with members, a leading axis on every leaf.
    sound: bool `[]` or `[P]`, whether all was well so far; where not, nothing moves any more.
  """

  state: Any
  sound: jax.Array | np.ndarray


class Log(NamedTuple):
  """What steps left, each array `[steps]` or `[steps, P]`.

  Attributes:
    metrics: of the parts of a step, by name.
    taken: bool, whether the step was taken.
    sound: bool, whether all was well in it and before.
  """

  metrics: Metrics
  taken: Any
  sound: Any


class Call(NamedTuple):
  """What a call left.

  Attributes:
    first: its first step, counted from one.
    log: of its steps, numpy arrays.
    snapshot: the `Run` after it, a copy on the device, where one was asked for; else None.
  """

  first: int
  log: Log
  snapshot: Run | None


def make_program(
  step: Callable,
  feed: Feed,
  layout: Layout | None = None,
  *,
  members: int | None = None,
  largest_loss: float = LARGEST_LOSS,
) -> Callable:
  """`advance(run, data, tickets, count, key) -> (run, log)` by `count` steps, jitted; `run` is donated.

  Args:
    step: `(state, *batches, key) -> (state, Metrics)`; the state has `weights`.
    feed: whose `fetch` makes batches of a ticket.
    layout: the devices; None: one.
    members: of a population, whose run, tickets and key have an axis of members, for each of which `step` works.
    largest_loss: beyond which a loss has exploded.
  """
  layout = layout or Layout(members=members)

  def one(run, data, ticket, key):
    batches = layout.share_out(feed.fetch(data, ticket), feed.batch_axes)
    state, metrics = step(run.state, *batches, key)
    losses = losses_of(metrics)
    sound = run.sound & _all_finite((losses, state.weights))
    for loss in losses:
      sound &= jnp.abs(loss) <= largest_loss
    state = lax.cond(sound, lambda: state, lambda: run.state)  # a choice for each leaf would be a kernel for each
    return Run(state, sound), Log(metrics, run.sound, sound)

  # Jitted, so that it is traced once for its shapes and for the loop.
  one = jax.jit(_over_members(one, at_once=jax.default_backend() != "cpu") if members else one)

  def advance(run, data, tickets, count, key):
    def ticket(index):
      return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, index, keepdims=False), tickets)

    def unfinished(loop):
      index, run, _ = loop
      return (index < count) & run.sound.any()

    def body(loop):
      index, run, log = loop
      run, new = one(run, data, ticket(index), key)
      log = jax.tree.map(lambda rows, row: lax.dynamic_update_index_in_dim(rows, row, index, 0), log, new)
      return index + 1, run, log

    _, shapes = jax.eval_shape(one, run, data, ticket(0), key)
    log = jax.tree.map(lambda shape: jnp.zeros((feed.capacity, *shape.shape), shape.dtype), shapes)
    _, run, log = lax.while_loop(unfinished, body, (jnp.zeros((), jnp.int32), run, log))
    return run, log

  if members:
    advance = layout.over_members(advance, takes=(0, None, 1, None, 0), gives=(0, 1))

  def readable(*arguments):
    run, log = advance(*arguments)
    return run, layout.readable(log)

  return jax.jit(readable, donate_argnums=0, compiler_options=compiler_options())


def _over_members(one: Callable, *, at_once: bool) -> Callable:
  """`one` for every member of a device: all at once, or one after the other where the cache is small, as on a CPU."""
  if at_once:
    return jax.vmap(one, in_axes=(0, None, 0, 0))

  def each(run, data, ticket, key):
    return lax.map(lambda member: one(member[0], data, *member[1:]), (run, ticket, key))

  return each


class DeviceLoop:
  """Calls of the program, one always under way while the log of the one before is read.

  Attributes:
    run: the newest; it belongs to the call that was yielded only where that ended at a multiple of `observe_every`, or
      was the last.
    done: steps that have been begun, those before a restart among them.
  """

  def __init__(
    self,
    step: Callable,
    state: Any,
    feed: Feed,
    key: Any,
    *,
    layout: Layout | None = None,
    members: int | None = None,
    largest_loss: float = LARGEST_LOSS,
  ):
    """`state` is not used up; `members` is the length of its leading axis, where it has one; `key` then has it too."""
    self._layout = layout = layout or Layout(members=members)
    self._feed, self.done = feed, 0
    self._fetch = jax.jit(feed.fetch)
    self._copy = jax.jit(lambda run: layout.readable(_copied(run)))
    self._ticket: Any = None
    state = jax.jit(_copied)(state)  # since it is donated
    self.run = layout.put(Run(state, np.ones(() if members is None else (members,), bool)), layout.own)
    self._key, self._data = layout.put(key, layout.own), layout.put(feed.data, layout.everywhere)
    self._program = make_program(step, feed, layout, members=members, largest_loss=largest_loss)

  def go_on_from(self, run: Run, done: int) -> None:
    """Takes the place of what was begun with: a run after `done` steps, as numpy arrays."""
    self.run, self.done = self._layout.put(run, self._layout.own), done
    self._feed.seek(done)

  def calls(
    self, steps: int, *, observe_every: int = 0, snapshot_every: int = 0, stop: Callable[[], bool] = lambda: False
  ) -> Iterator[Call]:
    """Takes all steps up to `steps`, or fewer where `stop` says so between two calls.

    At multiples of `observe_every` a call ends, and the next one begins only when the caller goes on. At multiples of
    `snapshot_every` it ends too, and so it does at the last step, but the next one begins at once: the caller gets a
    copy of the run.
    """
    most, under_way, last = 1, [], time.monotonic()
    while self.done < steps or under_way:
      looked_at = observe_every and self.done % observe_every == 0 and under_way  # so the state must not move on
      if self.done < steps and len(under_way) < 2 and not looked_at:
        most, stopping = self._layout.agree(most, stop())
        if stopping:
          steps = self.done
          continue
        ends = [every - self.done % every for every in (observe_every, snapshot_every) if every]
        begun = self._begin(min(most, self._feed.capacity, steps - self.done, *ends), bool(observe_every))
        whole = snapshot_every and (self.done % snapshot_every == 0 or self.done == steps)
        under_way.append((*begun, self.snapshot() if whole else None))
        continue
      first, count, log, snapshot = under_way.pop(0)
      log = jax.tree.map(lambda rows: np.asarray(rows)[:count], log)
      seconds = max(time.monotonic() - last, 1e-6)
      most = max(1, min(2 * count, int(count * _CALL_SECONDS / seconds)))
      yield Call(first, log, snapshot)
      last = time.monotonic()

  def snapshot(self) -> Run:
    """A copy of the newest run, which every process can read."""
    return self._copy(self.run)

  def batches(self) -> tuple:
    """What the last step of the newest call was fed with; only where there is an `observe_every`."""
    return self._fetch(self._data, self._ticket)

  def _begin(self, count: int, keep_ticket: bool) -> tuple[int, int, Log]:
    """The first step, the number of steps and the log, still to come, of a call."""
    tickets = self._feed.read(count)
    if self._feed.streams:
      tickets = self._layout.put_batches(tickets, [1 + axis for axis in self._feed.batch_axes])
    self.run, log = self._program(self.run, self._data, tickets, np.int32(count), self._key)
    self._ticket = jax.tree.map(lambda leaf: leaf[count - 1], tickets) if keep_ticket else None
    self.done += count
    return (self.done - count + 1, count, log)


def _copied(tree: Any) -> Any:
  """A copy without weak types, which would make the next call compile another program."""
  return jax.tree.map(lambda leaf: jnp.array(leaf, leaf.dtype), tree)


def _all_finite(tree: Any) -> jax.Array:
  """Of the floating leaves, all at once: small kernels add up."""
  leaves = [leaf.ravel() for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
  return jnp.isfinite(jnp.concatenate(leaves)).all()
