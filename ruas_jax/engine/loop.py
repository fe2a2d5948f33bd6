"""The loop that searches, populations and trainings share. It logs, saves and shows progress, and it stops if a loss is
not finite or if SIGTERM arrives."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from ruas_jax.engine.device_loop import DeviceLoop
from ruas_jax.engine.journal import Journal
from ruas_jax.engine.observer import Observer
from ruas_jax.engine.preemption import Preempted
from ruas_jax.engine.progress import progress
from ruas_jax.engine.records import Record, make_records, median_losses, split
from ruas_jax.engine.run_folder import RunFolder
from ruas_jax.errors import UserError


class Outcome(NamedTuple):
  """Attributes:
  state: the last state, numpy arrays.
  records: records of each member, one for each step; on a host that does not write, only since a restart.
  failures: error of each member; None where there is no error.
  """

  state: Any
  records: list[list[Record]]
  failures: list[str | None]


def iterate(
  loop: DeviceLoop,
  *,
  steps: int,
  description: str,
  run_folder: RunFolder,
  members: Sequence[epath.Path | None] | None = None,
  observer: Observer | None = None,
  watch: Callable[[Sequence[list[Record]]], None] | None = None,
) -> Outcome:
  """Takes the steps of a run up to `steps`, starting where the run folder says that it stopped.

  Args:
    loop: the loop before its first step.
    steps: total number of steps.
    description: description of the run in one or two words.
    run_folder: folder for `metrics.jsonl` and the snapshots.
    members: folder of each member of a population, for its `metrics.jsonl`; None: a single run.
    observer: observer of the run, which adds metrics and may end it or single members.
    watch: function that receives the new records of every member, or of the single run.

  Raises:
    UserError: in a single run, a loss or the new weights are not finite, or a loss is too large; the message names the
      step and the last snapshot. The log holds all steps up to it.
    Preempted: SIGTERM stopped the run, which is saved.
  """
  every = observer.every if observer else 0
  with contextlib.ExitStack() as stack:
    journal = stack.enter_context(Journal(run_folder, [run_folder.path] if members is None else members))
    journal.begin(loop, observer)
    ended = lambda: observer.stopped if observer else [False] * len(journal.failures)
    finished = lambda: all(failed or over for failed, over in zip(journal.failures, ended(), strict=True))
    if finished():
      steps = loop.done
    bar = stack.enter_context(progress(steps, description))
    saving = {"snapshot_every": run_folder.run.checkpoint.every} if run_folder.saves else {}
    for call in loop.calls(steps, observe_every=every, stop=run_folder.stopping, **saving):
      last = call.first + len(call.log.taken) - 1
      logs = [call.log] if members is None else split(call.log, len(members))
      limit = run_folder.run.largest_loss
      records, failures = zip(*(make_records(call.first, log, largest_loss=limit) for log in logs), strict=True)
      if observer and last % every == 0:
        going = [bool(of_member) and not failure for of_member, failure in zip(records, failures, strict=True)]
        if any(going):
          _add(observer(loop.readable_state(), loop.batches(), going), records)
          loop.end(observer.stopped)
      journal.add(records, failures)
      if watch:
        watch(records)
      bar.update(last, **median_losses(journal.newest()))
      if members is None and failures[0]:
        raise UserError(f"{description}: {failures[0]}{journal.last_good()}")
      if call.snapshot:
        journal.save(last, call.snapshot, observer)
      if finished():
        break
    if run_folder.saves and journal.saved != loop.done:
      journal.save(loop.done, loop.snapshot(), observer)
    journal.wait()
    if loop.done < steps and not finished():  # on every host, even if only one received SIGTERM
      raise Preempted(
        f"{description}: stopped by SIGTERM after step {loop.done} of {steps}; the same command resumes it"
      )
    state = jax.device_get(loop.snapshot().state)
  return Outcome(state, journal.records, journal.failures)


def _add(metrics: Sequence[dict[str, Any]], records: Sequence[list[Record]]) -> None:
  """Adds the metrics of every member that has some to its last record."""
  for more, of_member in zip(jax.device_get(metrics), records, strict=True):
    if more:
      of_member[-1].update({name: np.asarray(value).tolist() for name, value in more.items()})
