"""Progress of long work: a bar on a terminal, otherwise plain lines; and messages to the user."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

_PLAIN_SECONDS = 10.0  # between two plain lines


def say(text: str) -> None:
  """Prints one line for the user that is not a result."""
  print(f"ruas: {text}", file=sys.stderr)


@contextlib.contextmanager
def progress(total: int, description: str) -> Iterator["_Bar | _Lines"]:
  """A progress bar with the current metrics. If stdout is not a terminal, plain lines instead.

  Use it as `with progress(800, "search") as bar: bar.update(step, loss=loss)`, where `step` is the number of finished
  steps. Metrics may be jax scalars; without a terminal, they are read (and waited for) only when a line is printed.
  """
  if not sys.stdout.isatty():
    yield _Lines(total, description)
    return
  from rich.console import Console
  from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
  )

  columns = (
    TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    TextColumn("{task.fields[metrics]}"),
  )  # fmt: skip
  with Progress(*columns, console=Console()) as bar:
    yield _Bar(bar, bar.add_task(description, total=total, metrics=""))


class _Bar:
  def __init__(self, bar, task):
    self._bar, self._task = bar, task

  def update(self, step: int, **metrics) -> None:
    self._bar.update(self._task, completed=step, metrics=_format(metrics))


class _Lines:
  """Prints a line at every tenth of the work, and when the last line is old."""

  def __init__(self, total: int, description: str):
    self._total, self._description = total, description
    self._started = self._printed = time.monotonic()
    self._tenth = 0

  def update(self, step: int, **metrics) -> None:
    now, tenth = time.monotonic(), 10 * step // max(self._total, 1)
    if tenth == self._tenth and now - self._printed < _PLAIN_SECONDS:
      return
    self._printed, self._tenth = now, tenth
    line = f"{self._description} {step}/{self._total} {now - self._started:.0f} s {_format(metrics)}"
    print(line.rstrip(), flush=True)


def _format(metrics: Mapping[str, Any]) -> str:
  return " ".join(f"{name} {float(value):.4g}" for name, value in metrics.items())
