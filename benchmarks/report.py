"""What every benchmark shares: its two options, its JSON report and its table.

A report is one JSON object: `device`, `versions`, `commit`, `date`, `settings`, `results` and `bars`, name -> {"value",
"bar", "met"} for names in `BARS`. A missed bar is reported and exits 0; what could not be measured raises instead.
"""

import argparse
import datetime
import importlib.metadata
import math
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from benchmarks.bars import BARS
from ruas_jax.files import write_json
from ruas_jax.runtime.metric_log import to_json_value

_ROOT = pathlib.Path(__file__).resolve().parents[1]


def argument_parser(description: str) -> argparse.ArgumentParser:
  """A parser with the options of every benchmark: `--json FILE` and `--quick`."""
  parser = argparse.ArgumentParser(description=description)
  parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the report here")
  parser.add_argument("--quick", action="store_true", help="a small version, to see that it runs")
  return parser


def write_report(
  path: str | os.PathLike | None, *, settings: Mapping[str, Any], results: Any, bars: Mapping[str, float]
) -> dict[str, Any]:
  """Writes a benchmark's report as JSON, whole or not at all, and returns it.

  Args:
    path: the file of `--json`; None writes nothing.
    settings: what the figures depend on: sizes, repeats, seeds, `--quick`.
    results: the figures; numpy and jax values are fine, NaN and infinities become null.
    bars: name in `BARS` -> measured number.

  Raises:
    KeyError: on a name that is not in `BARS`.
    ValueError: where a bar's number is NaN or infinite: then it was not measured.
  """
  report = {
    "device": _device(),
    "versions": _versions(),
    "commit": _commit(),
    "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "settings": settings,
    "results": results,
    "bars": {name: _compare(name, float(value)) for name, value in bars.items()},
  }
  report = to_json_value(report)
  if path is not None:
    write_json(path, report)
  return report


def print_table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> None:
  """Prints rows as a table; the first row's keys head the columns, floats get four digits, a missing value a blank."""
  table = Table(title=title)
  for name, value in rows[0].items():
    table.add_column(name, justify="left" if isinstance(value, str) else "right")
  for row in rows:
    values = (row.get(name, "") for name in rows[0])
    table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values))
  Console().print(table)


def _compare(name: str, value: float) -> dict[str, Any]:
  if name not in BARS:
    raise KeyError(f"no bar is named {name!r} in benchmarks/bars.py (known: {', '.join(BARS)})")
  if not math.isfinite(value):
    raise ValueError(f"{name}: {value} is no measurement")
  return {"value": value, "bar": BARS[name].threshold, "met": BARS[name].met(value)}


def _device() -> str:
  """The first device in words; for a CPU its model and the cores that this process may use."""
  device = jax.devices()[0]
  if device.platform != "cpu":
    return f"{device.platform}: {device.device_kind}"
  information = pathlib.Path("/proc/cpuinfo")
  lines = information.read_text().splitlines() if information.exists() else []
  model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  return f"cpu: {model}, {cores} cores"


def _versions() -> dict[str, str]:
  packages = ["jax", "jaxlib", "flax", "optax", "numpy"] + (["torch"] if "torch" in sys.modules else [])
  return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def _commit() -> str:
  """The checked-out commit, with "-dirty" where anything but the results differs from it; "unknown" outside git."""

  def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()

  try:
    # One benchmark's new result does not make the next one's code another.
    dirty = git("status", "--porcelain", "--", ".", ":(exclude)benchmarks/results")
    return git("rev-parse", "HEAD") + ("-dirty" if dirty else "")
  except (OSError, subprocess.CalledProcessError):
    return "unknown"
