"""Many steps in one call of a compiled program: feeding, stepping and recording happen on the device.

The program is compiled once for any number of steps up to the feed's capacity, and its state is donated. It stops at
the first step whose loss or new weights are not finite, or whose loss is larger than the limit. That step is recorded,
and the state from before it is kept. For a population, the step is mapped over the members, which are divided over the
devices; each member stops independently, also where an observer ends it.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ruas_jax.engine.compiler import compiler_options
from ruas_jax.engine.feed import Feed
from ruas_jax.engine.memory import no_collection
from ruas_jax.engine.mesh import Layout, map_members
from ruas_jax.engine.metrics import Metrics, StepMetrics, losses_of
from ruas_jax.engine.program_cache import kept_program
from ruas_jax.engine.run_options import LARGEST_LOSS

_CALL_SECONDS = 2.5  # target duration of a call, so that the log is updated at least every five seconds


class Run(NamedTuple):
  """The state that one call passes to the next.

  Attributes:
    state: state of the search or training; for a population, every leaf has a leading axis of members.
    sound: bool `[]` or `[P]`, whether every step so far was healthy, and the observer has not ended the member; if not,
      the state does not change any more. The name is part of the snapshots' format.
  """

  state: Any
  sound: jax.Array | np.ndarray


class Log(NamedTuple):
  """The record of steps, each array `[steps]` or `[steps, P]`.

  Attributes:
    metrics: metrics of the parts of a step, by name.
    taken: bool, whether the step was taken.
    sound: bool, whether this step and all before it were healthy.
  """

  metrics: Metrics
  taken: Any
  sound: Any


class Call(NamedTuple):
  """The result of a call.

  Attributes:
    first: number of its first step, counted from one.
    log: record of its steps, numpy arrays.
    snapshot: a copy of the `Run` after it, on the device, if one was requested; else None.
  """

  first: int
  log: Log
  snapshot: Run | None


def make_advance(
  step: Callable,
  feed: Feed,
  layout: Layout | None = None,
  *,
  members: int | None = None,
  largest_loss: float = LARGEST_LOSS,
) -> Callable:
  """`advance(run, data, tickets, count, key) -> (run, log)`, which takes `count` steps; a pure function.

  Args:
    step: `(state, *batches, key) -> (state, Metrics)`; the state has `weights`.
    feed: its `fetch` makes batches from a ticket.
    layout: the devices; None: one device.
    members: size of the population. Then run, tickets and key have an axis of members, and `step` gets a single member.
    largest_loss: a larger loss counts as a failure.
  """
  layout = layout or Layout(members=members)

  @jax.jit  # so that it is traced only once, for its shapes and for the loop
  def take_step(run, data, ticket, key):
    batches = layout.share_out(feed.fetch(data, ticket), feed.batch_axes)
    state, metrics = step(run.state, *batches, key)
    losses = losses_of(metrics)
    sound = run.sound & _all_finite((losses, state.weights))
    for loss in losses:
      sound &= jnp.abs(loss) <= largest_loss
    state = lax.cond(sound, lambda: state, lambda: run.state)  # jnp.where on each leaf would be one kernel per leaf
    return Run(state, sound), Log(metrics, run.sound, sound)

  def take_step_if_sound(run, *inputs):
    """Takes no time for a member that has ended, where the members are computed one after the other."""
    shapes = jax.eval_shape(take_step, run, *inputs)[1]
    return lax.cond(run.sound, lambda: take_step(run, *inputs), lambda: (run, _zeros(shapes)))

  take_steps = jax.jit(map_members(take_step_if_sound, in_axes=(0, None, 0, 0))) if members else take_step

  def advance(run, data, tickets, count, key):
    def ticket(index):
      return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, index, keepdims=False), tickets)

    def unfinished(loop):
      index, run, _ = loop
      return (index < count) & run.sound.any()

    def body(loop):
      index, run, log = loop
      run, new = take_steps(run, data, ticket(index), key)
      log = jax.tree.map(lambda rows, row: lax.dynamic_update_index_in_dim(rows, row, index, 0), log, new)
      return index + 1, run, log

    _, shapes = jax.eval_shape(take_steps, run, data, ticket(0), key)
    log = _zeros(shapes, feed.capacity)
    _, run, log = lax.while_loop(unfinished, body, (jnp.zeros((), jnp.int32), run, log))
    return run, log

  if members:
    advance = layout.over_members(advance, takes=(0, None, 1, None, 0), gives=(0, 1))

  def readable(*arguments):
    run, log = advance(*arguments)
    return run, layout.readable(log)

  return readable


def make_program(step: Callable, feed: Feed, layout: Layout | None = None, **options: Any) -> Callable:
  """`make_advance`, jitted; `run` is donated."""
  return jax.jit(make_advance(step, feed, layout, **options), donate_argnums=0, compiler_options=compiler_options())


class DeviceLoop:
  """Calls the program repeatedly. The next call is always running while the log of the previous one is read.

  Attributes:
    run: the newest state. It belongs to the call just yielded only if that call ended at a multiple of `observe_every`,
      or was the last.
    done: number of steps begun, including those before a restart.
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
    identity: Any = None,
  ):
    """`state` is copied, not donated. `members` is the length of the leading axis of `state` and `key`; None: no axis.
    `identity` is JSON that determines `step`: then the traced program is kept for the next start (`program_cache`)."""
    self._layout = layout = layout or Layout(members=members)
    self._feed, self.done = feed, 0
    self._fetch = jax.jit(feed.fetch)
    self._copy = jax.jit(lambda run: layout.readable(_copied(run)))
    self._ticket: Any = None
    state = jax.jit(_copied)(state)  # the program donates its input
    self.run = layout.put(Run(state, np.ones(() if members is None else (members,), bool)), layout.per_member)
    self._key, self._data = layout.put(key, layout.per_member), layout.put(feed.data, layout.everywhere)
    self._program = make_program(step, feed, layout, members=members, largest_loss=largest_loss)
    self._kept, self._compiled = None, False
    if identity is not None and members is None and layout.mesh.size == 1:
      about = {"step": identity, "pools": feed.pools, "largest_loss": largest_loss}
      advance = make_advance(step, feed, layout, largest_loss=largest_loss)
      structure_of = lambda names: (self.run, _log_of(names))
      self._kept = lambda arguments: kept_program(advance, arguments, about, _log_names, structure_of)

  def resume_from(self, run: Run, done: int) -> None:
    """Replaces the state by that of a run after `done` steps, given as numpy arrays."""
    self.run, self.done = self._layout.put(run, self._layout.per_member), done
    self._feed.seek(done)

  def calls(
    self, steps: int, *, observe_every: int = 0, snapshot_every: int = 0, stop: Callable[[], bool] = lambda: False
  ) -> Iterator[Call]:
    """Takes all steps up to `steps`, or fewer if `stop` returns true between two calls.

    A call ends at every multiple of `observe_every`; the next one begins only when the caller continues the iteration.
    A call also ends at every multiple of `snapshot_every`, and at the last step, and then carries a copy of the run, so
    that the next one can begin at once.
    """
    most, under_way, last = 1, [], time.monotonic()
    while self.done < steps or under_way:
      observed = observe_every and self.done % observe_every == 0 and under_way  # the state must not change yet
      if self.done < steps and len(under_way) < 2 and not observed:
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

  def end(self, members: Sequence[bool]) -> None:
    """Takes no more steps of these members, one value for each. A single run is one member."""
    if any(members):
      ended = np.reshape(members, self.run.sound.shape)
      self.run = self.run._replace(sound=self.run.sound & ~self._layout.put(ended, self._layout.per_member))

  def snapshot(self) -> Run:
    """A copy of the newest run, readable by every process."""
    return self._copy(self.run)

  def readable_state(self) -> Any:
    """The newest state, readable by every process; no copy where there is only one."""
    return self.run.state if jax.process_count() == 1 else self.snapshot().state

  def batches(self) -> tuple:
    """The batches of the last step of the newest call; available only with `observe_every`."""
    return self._fetch(self._data, self._ticket)

  def _begin(self, count: int, keep_ticket: bool) -> tuple[int, int, Log]:
    """Begins a call; returns its first step, its number of steps and its log, which is not computed yet."""
    tickets = self._feed.read(count)
    if self._feed.streams:
      tickets = self._layout.put_batches(tickets, [1 + axis for axis in self._feed.batch_axes])
    arguments = (self.run, self._data, tickets, np.int32(count), self._key)
    with contextlib.nullcontext() if self._compiled else no_collection():
      if self._kept:
        self._program, self._kept = self._kept(arguments) or self._program, None
      self.run, log = self._program(*arguments)
    self._compiled = True
    self._ticket = jax.tree.map(lambda leaf: leaf[count - 1], tickets) if keep_ticket else None
    self.done += count
    return (self.done - count + 1, count, log)


def _log_names(result: tuple[Run, Log]) -> dict[str, Any]:
  """The names of the metrics of each part, as JSON."""
  return {part: [list(of_part.losses), list(of_part.scalars)] for part, of_part in result[1].metrics.items()}


def _log_of(names: dict[str, Any]) -> Log:
  """A log of the structure that these names have; its values are placeholders."""
  placeholder: Any = 0
  parts = {
    part: StepMetrics({name: placeholder for name in losses}, {name: placeholder for name in scalars})
    for part, (losses, scalars) in names.items()
  }
  return Log(parts, placeholder, placeholder)


def _copied(tree: Any) -> Any:
  """A copy without weak types, because weak types would cause another compilation at the next call."""
  return jax.tree.map(lambda leaf: jnp.array(leaf, leaf.dtype), tree)


def _zeros(shapes: Any, *axes: int) -> Any:
  """Zeros of these shapes, behind more axes of these lengths."""
  return jax.tree.map(lambda shape: jnp.zeros((*axes, *shape.shape), shape.dtype), shapes)


def _all_finite(tree: Any) -> jax.Array:
  """Whether all floating leaves are finite. One test for all of them, because small kernels add up."""
  leaves = [leaf.ravel() for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
  return jnp.isfinite(jnp.concatenate(leaves)).all()
