"""The files that a run writes during its steps, and how a run is resumed from them."""

import contextlib
import hashlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
from etils import epath

from ruas_jax.engine.device_loop import DeviceLoop, Run
from ruas_jax.engine.leftovers import METRICS, TENSORBOARD
from ruas_jax.engine.metric_log import MetricLog, Position, read_metrics
from ruas_jax.engine.observer import Observer
from ruas_jax.engine.records import Record
from ruas_jax.engine.run_folder import RunFolder
from ruas_jax.engine.tensorboard import TensorBoardLog

try:
  import resource
except ImportError:  # on Windows
  resource = None

OF_THE_MACHINE = ("seconds", "steps_per_second", "peak_bytes")  # fields of the log that differ between processes

_EMPTY = Position(0, hashlib.sha256().hexdigest())


class Journal(contextlib.ExitStack):
  """The records of a run, in memory and in its logs, and its snapshots. Use it as a context manager.

  Attributes:
    records: records of each member, for all steps so far.
    failures: error of each member; None where there is no error.
    saved: step of the newest snapshot; None before the first.
  """

  def __init__(self, run_folder: RunFolder, folders: Sequence[epath.Path | None]):
    """Each of the `folders` gets a log; None gets none."""
    super().__init__()
    self._run_folder, self._folders = run_folder, folders
    self._sinks: list[list[MetricLog | TensorBoardLog]] = [[] for _ in folders]
    self.records: list[list[Record]] = [[] for _ in folders]
    self.failures: list[str | None] = [None] * len(folders)
    self.saved: int | None = None
    self._has_moved = False
    self._last = self._started = time.monotonic()

  def begin(self, loop: DeviceLoop, observer: Observer | None) -> None:
    """Brings the loop to the step where the run stopped. A new run is saved first, so that it can always be resumed."""
    start = self._run_folder.start
    positions = [_EMPTY] * len(self._folders)
    if start:
      shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), loop.run)
      loop.resume_from(start.read(shapes), start.step)
      self.failures, self.saved = start.about["failures"], start.step
      positions = [Position(*position) for position in start.about["logs"]]
      if observer:
        observer.restore(start.about["observer"], shapes.state)
        loop.end(observer.stopped)
    elif self._run_folder.saves:
      self.save(0, loop.snapshot(), observer, positions)
      self.wait()
    for member, (folder, position) in enumerate(zip(self._folders, positions, strict=True)):
      if folder is None:
        continue
      self._sinks[member].append(self.enter_context(MetricLog(folder / METRICS, position)))
      if self._run_folder.run.tensorboard:
        log = TensorBoardLog(folder / TENSORBOARD, after=self.saved or 0)
        self._sinks[member].append(self.enter_context(log))
      self.records[member] = [_of_the_run(record) for record in read_metrics(folder / METRICS)]

  def add(self, records: Sequence[list[Record]], failures: Sequence[str | None]) -> None:
    """Adds the records of a call, for each member, and the error of each member in it."""
    now = time.monotonic()
    if not self._has_moved:
      self._run_folder.forget_results()
      self._has_moved = True
    for member, (new, failure) in enumerate(zip(records, failures, strict=True)):
      self.records[member] += new
      self.failures[member] = self.failures[member] or failure
      if new and self._sinks[member]:
        speed = {"seconds": now - self._started, "steps_per_second": len(new) / max(now - self._last, 1e-9)}
        timed = [*new[:-1], new[-1] | speed | {"peak_bytes": _peak_bytes()}]
        for sink in self._sinks[member]:
          sink.write(*timed)
    self._last = now

  def save(self, step: int, run: Run, observer: Observer | None, positions: list[Position] | None = None) -> None:
    """Begins to write a snapshot of `run` after `step`. The records of all steps up to it must have been added."""
    self.saved = step
    if not self._run_folder.snapshots:
      return
    positions = positions or [sink.position() for sinks in self._sinks for sink in sinks if isinstance(sink, MetricLog)]
    about = self._run_folder.about() | {
      "logs": positions,
      "failures": list(self.failures),  # copied: the snapshot is written in the background
      "observer": observer.about() if observer else None,
    }
    self._run_folder.snapshots.write(step, run, about)

  def newest(self) -> list[Record]:
    """The last record of each member that has not failed; also of those that an observer has ended."""
    members = zip(self.records, self.failures, strict=True)
    return [records[-1] for records, failure in members if records and not failure]

  def wait(self) -> None:
    """Waits until the snapshots are on disk. Raises UserError if they cannot be written."""
    if self._run_folder.snapshots:
      self._run_folder.snapshots.wait()

  def last_good(self) -> str:
    """Text that names the newest snapshot; empty without one."""
    if not self._run_folder.snapshots or self.saved is None:
      return ""
    self.wait()
    return f"; the last good checkpoint is {self._run_folder.snapshots.path(self.saved)}"


def _of_the_run(record: Record) -> Record:
  return {name: value for name, value in record.items() if name not in OF_THE_MACHINE}


def _peak_bytes() -> int | None:
  """The largest memory use of the first device so far; for a CPU, of the process."""
  statistics: dict[str, Any] = jax.local_devices()[0].memory_stats() or {}
  if "peak_bytes_in_use" in statistics:
    return statistics["peak_bytes_in_use"]
  if resource is None:
    return None
  most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return most if sys.platform == "darwin" else most * 1024
