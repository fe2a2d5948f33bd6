"""The rows of the study for people: a table for each sweep, and CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from ruas_jax.engine.report import Bar, print_table
from ruas_jax.hypergradient_study.measure import Row

_WIDTH = 180
_HEADINGS = {
  "estimator": "estimator",
  "options": "options",
  "epsilon": "ε",
  "steps": "T",
  "rate": "rate",
  "dtype": "dtype",
  "losses": "losses",
  "relative_error": "error",
  "implicit_relative_error": "error/implicit",
  "cosine": "cosine",
  "sign_agreement": "same signs",
  "milliseconds": "ms",
  "temporary_bytes": "MiB",
  "compile_seconds": "compile s",
  "residual": "residual",
}


def print_sweeps(rows: Sequence[Row], file: TextIO) -> None:
  """Prints a table for each sweep, without columns that are empty in it."""
  for sweep in dict.fromkeys(row["sweep"] for row in rows):
    selected = [row for row in rows if row["sweep"] == sweep]
    used = [name for name in _HEADINGS if any(row[name] not in (None, "") for row in selected)]
    table = [{_HEADINGS[name]: _in_table(name, row[name]) for name in used} for row in selected]
    print_table(table, f"{sweep}: against {selected[0]['reference']}", file=file, width=_WIDTH)


def print_bars(bars: Mapping[str, tuple[float, Bar]], file: TextIO) -> None:
  """Prints the measured numbers and their thresholds."""
  signs = {"at_least": "≥", "at_most": "≤", "above": ">"}
  table = [
    {"bar": name, "measured": float(value), "threshold": f"{signs[bar.sense]} {bar.threshold:g}", "met": bar.met(value)}
    for name, (value, bar) in bars.items()
  ]
  print_table(table, "bars", file=file, width=_WIDTH)


def print_conformance(rows: Sequence[Mapping[str, Any]], file: TextIO) -> None:
  """Prints for each estimator the row of `bilevel.conformance` (as a dictionary) that is nearest to its threshold."""
  table = []
  for name in dict.fromkeys(row["estimator"] for row in rows):
    selected = [row for row in rows if row["estimator"] == name]
    worst = max(selected, key=lambda row: row["value"] / row["bar"] if row["value"] == row["value"] else float("inf"))
    met = f"{sum(row['met'] for row in selected)} of {len(selected)}"
    table.append({"estimator": name, "met": met, **{key: worst[key] for key in ("problem", "inner", "steps", "against",
                                                                              "measure", "value", "bar")}})  # fmt: skip
  print_table(table, "conformance: the number nearest to its threshold", file=file, width=_WIDTH)


def as_csv(rows: Sequence[Row]) -> bytes:
  """All columns as CSV; a missing value is empty."""
  text = io.StringIO()
  writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  return text.getvalue().encode()


def _in_table(name, value):
  return value / 2**20 if name == "temporary_bytes" and value is not None else value
