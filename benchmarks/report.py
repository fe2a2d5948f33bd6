"""What every benchmark shares: its two options, and its report (`ruas_jax.engine.report`) with the bars of this
project."""

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
  """A parser with the options of every benchmark: `--json FILE` and `--quick`."""
  parser = argparse.ArgumentParser(description=description)
  parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the report here")
  parser.add_argument("--quick", action="store_true", help="a small version, to see that it runs")
  return parser


def write_report(
  path: str | os.PathLike | None,
  *,
  settings: Mapping[str, Any],
  results: Any,
  bars: Mapping[str, float],
  about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """As `ruas_jax.engine.report.write_report`, with `bars` a measured number for each name in `BARS`.

  Raises:
    KeyError: on a name that is not in `BARS`.
    ValueError: where a bar's number is NaN or infinite.
  """
  unknown = sorted(set(bars) - set(BARS))
  if unknown:
    raise KeyError(f"no bar is named {unknown[0]!r} in benchmarks/bars.py (known: {', '.join(BARS)})")
  measured = {name: (value, BARS[name]) for name, value in bars.items()}
  return report.write_report(path, settings=settings, results=results, bars=measured, about=about)
