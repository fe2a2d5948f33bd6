"""What every measurement reports: one JSON object, and tables on the terminal.

A report is `device`, `versions`, `commit`, `date`, `settings`, `results` and `bars`, name -> {"value", "bar", "met"}. A
missed bar is a result like any other; what could not be measured raises instead.
"""

import dataclasses
import datetime
import math
import os
import pathlib
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TextIO

from ruas_jax.engine.environment import device_in_words, versions
from ruas_jax.engine.metric_log import to_json_value
from ruas_jax.files import write_json

_ROOT = pathlib.Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Bar:
  """A threshold for one measured number.

  Attributes:
    threshold: the bar itself, in the unit that `source` gives.
    sense: whether a number must be "at_least", "at_most" or "above" the threshold; equality does not meet the last.
    source: the requirement in words.
  """

  threshold: float
  sense: Literal["at_least", "at_most", "above"]
  source: str

  def met(self, value: float) -> bool:
    """Whether this finite number meets the bar."""
    if self.sense == "at_most":
      return value <= self.threshold
    return value > self.threshold or (value == self.threshold and self.sense == "at_least")


def write_report(
  path: str | os.PathLike | None,
  *,
  settings: Mapping[str, Any],
  results: Any,
  bars: Mapping[str, tuple[float, Bar]],
  about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Writes a report as JSON, whole or not at all, and returns it.

  Args:
    path: the file; None writes nothing.
    settings: what the figures depend on: sizes, repeats, seeds.
    results: the figures; numpy and jax values are fine, NaN and infinities become null.
    bars: name -> (measured number, its bar).
    about: `device`, `versions` and `commit` where another process measured; none: this one's.

  Raises:
    UserError: the file cannot be written.
    ValueError: where a bar's number is NaN or infinite: then it was not measured.
  """
  if about is None:
    about = {"device": device_in_words(), "versions": versions(), "commit": checked_out_commit()}
  report = {
    **about,
    "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "settings": settings,
    "results": results,
    "bars": {name: _compare(name, float(value), bar) for name, (value, bar) in bars.items()},
  }
  report = to_json_value(report)
  if path is not None:
    write_json(path, report)
  return report


def print_table(
  rows: Sequence[Mapping[str, Any]], title: str | None = None, *, file: TextIO | None = None, width: int | None = None
) -> None:
  """Prints rows as a table; the first row's keys head the columns, floats get four digits, a missing value a blank.

  Args:
    rows: at least one.
    title: over the table.
    file: to write to; none: the terminal.
    width: in characters; none: the terminal's.
  """
  from rich.console import Console
  from rich.table import Table

  table = Table(title=title)
  for name, value in rows[0].items():
    table.add_column(name, justify="left" if isinstance(value, str) else "right")
  for row in rows:
    table.add_row(*(_cell(row.get(name)) for name in rows[0]))
  Console(file=file, width=width).print(table)


def _cell(value: Any) -> str:
  if value is None:
    return ""
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def _compare(name: str, value: float, bar: Bar) -> dict[str, Any]:
  if not math.isfinite(value):
    raise ValueError(f"{name}: {value} is no measurement")
  return {"value": value, "bar": bar.threshold, "met": bar.met(value)}


def checked_out_commit() -> str:
  """The checked-out commit, with "-dirty" where anything but the results differs from it; "unknown" where this package
  is installed rather than checked out."""

  def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()

  if not (_ROOT / ".git").exists():  # a repository further up is somebody else's
    return "unknown"
  try:
    # One measurement's new result does not make the next one's code another.
    dirty = git("status", "--porcelain", "--", ".", ":(exclude)benchmarks/results")
    return git("rev-parse", "HEAD") + ("-dirty" if dirty else "")
  except (OSError, subprocess.CalledProcessError):
    return "unknown"
