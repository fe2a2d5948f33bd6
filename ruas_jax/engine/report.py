"""The report of a measurement: one JSON object, and tables on the terminal.

A report is `device`, `versions`, `commit`, `date`, `settings`, `results` and `bars`. `bars` maps the name of a number
to {"value", "bar", "met"}, where "bar" is its threshold. A missed threshold is a valid result; a number that cannot be
measured is an error.
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
    threshold: the threshold, in the unit that `source` gives.
    sense: whether a number must be "at_least", "at_most" or "above" the threshold; equality does not satisfy "above".
    source: the requirement in words.
  """

  threshold: float
  sense: Literal["at_least", "at_most", "above"]
  source: str

  def met(self, value: float) -> bool:
    """Whether this finite number satisfies the requirement."""
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
  """Writes a report as JSON, completely or not at all, and returns it.

  Args:
    path: the file; None: nothing is written.
    settings: everything that the numbers depend on: sizes, repeats, seeds.
    results: the numbers; numpy and jax values are allowed, NaN and infinities become null.
    bars: name -> (measured number, its threshold).
    about: `device`, `versions` and `commit`, if another process measured; None: those of this process.

  Raises:
    UserError: the file cannot be written.
    ValueError: a number with a threshold is NaN or infinite, so it was not measured.
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
  """Prints rows as a table. The keys of the first row are the header, floats have four digits, a missing value is
  blank.

  Args:
    rows: at least one.
    title: text above the table.
    file: output file; None: the terminal.
    width: width in characters; None: that of the terminal.
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
    raise ValueError(f"{name}: the measured value is {value}, not a finite number")
  return {"value": value, "bar": bar.threshold, "met": bar.met(value)}


def checked_out_commit() -> str:
  """The commit that is checked out, with "-dirty" if any file except the results differs from it; "unknown" if the
  package is installed without its repository."""

  def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()

  if not (_ROOT / ".git").exists():  # a repository in a parent folder is not this project
    return "unknown"
  try:
    # New results are not a change of the code.
    dirty = git("status", "--porcelain", "--", ".", ":(exclude)benchmarks/results")
    return git("rev-parse", "HEAD") + ("-dirty" if dirty else "")
  except (OSError, subprocess.CalledProcessError):
    return "unknown"
