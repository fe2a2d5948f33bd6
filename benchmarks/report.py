"""The two options that every benchmark has, and its report (`ruas_jax.engine.report`) with this project's
thresholds."""

import argparse
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from benchmarks.bars import BARS
from ruas_jax.engine import report
from ruas_jax.engine.report import print_table

__all__ = ["argument_parser", "print_table", "write_report"]


def argument_parser(description: str) -> argparse.ArgumentParser:
  """A parser with the options of every benchmark, `--json FILE` and `--quick`."""
  parser = argparse.ArgumentParser(description=description)
  parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the report to this file")
  parser.add_argument("--quick", action="store_true", help="run a small version, as a test")
  return parser


def write_report(
  path: str | os.PathLike | None,
  *,
  settings: Mapping[str, Any],
  results: Any,
  bars: Mapping[str, float],
  about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """`ruas_jax.engine.report.write_report`, where `bars` maps names in `BARS` to measured numbers.

  Raises:
    KeyError: a name is not in `BARS`.
    ValueError: a number with a threshold is NaN or infinite.
  """
  unknown = sorted(set(bars) - set(BARS))
  if unknown:
    raise KeyError(f"no threshold is named {unknown[0]!r} in benchmarks/bars.py (known: {', '.join(BARS)})")
  measured = {name: (value, BARS[name]) for name, value in bars.items()}
  return report.write_report(path, settings=settings, results=results, bars=measured, about=about)
