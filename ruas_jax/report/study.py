"""A study of hypergradients: its thresholds, and its sweeps as charts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ruas_jax.report.charts import Axis, Curve, line_chart
from ruas_jax.report.markup import Content, Markup, element, folded, number, table

Rows = Sequence[Mapping[str, Any]]


def thresholds_part(bars: Mapping[str, Any]) -> Markup:
  """The measured numbers that have a threshold, and whether they meet it."""

  def row(item: tuple[str, Mapping[str, Any]]) -> list[Content]:
    name, bar = item
    met = element("span", "met" if bar["met"] else "missed", class_="met" if bar["met"] else "missed")
    return [name.replace("_", " "), number(bar["value"]), number(bar["bar"]), met]

  return table(["number", "measured", "threshold", ""], map(row, bars.items()), label="Thresholds")


def sweep_charts(rows: Rows) -> list[Markup]:
  """A chart for each thing that was measured over the size of the difference, the horizon, and the learning rate."""
  epsilon = [
    Curve(f"{losses} losses, {dtype}", *_columns(of_curve, "epsilon", "implicit_relative_error"), color, style)
    for color, losses in ((3, "raw"), (0, "smoothed"))
    for dtype, style in (("float64", "points"), ("float32", "points dashed"))
    if (of_curve := [row for row in rows if _is(row, "epsilon", losses=losses, dtype=dtype)])
  ]
  charts = []
  if epsilon:
    error = Axis("error / exact implicit term", log=True)
    note = "Rounding on the left, the error of the difference itself on the right. The smoothed losses have no kinks."
    charts.append(
      line_chart("Finite difference", epsilon, Axis("size of the difference ε", log=True), error, note=note,
                 levels=[(1.0, "as wrong as without the term")])
    )  # fmt: skip
  for column, title, label, unit in (
    ("relative_error", "Error by horizon", "relative error", 1.0),
    ("milliseconds", "Time by horizon", "milliseconds", 1.0),
    ("temporary_bytes", "Memory by horizon", "MiB, without inputs and outputs", 2.0**20),
  ):
    curves = _by_estimator([row for row in rows if _is(row, "horizon")], "steps", column, unit)
    if curves:
      charts.append(line_chart(title, curves, Axis("inner steps", log=True), Axis(label, log=column == "milliseconds")))
  rate = [row for row in rows if _is(row, "rate") and row["estimator"] != "unrolled"]  # unrolled is exact
  if curves := _by_estimator(rate, "rate", "relative_error", 1.0):
    x = Axis("learning rate of the inner optimiser", log=True)
    charts.append(line_chart("Error by learning rate", curves, x, Axis("relative error", log=True)))
  return charts


def rows_part(rows: Rows) -> Markup:
  """Every measured case, behind a click."""
  columns = {
    "estimator": "estimator", "options": "options", "steps": "inner steps", "dtype": "numbers", "losses": "losses",
    "relative_error": "relative error", "cosine": "cosine", "milliseconds": "ms", "temporary_bytes": "bytes",
  }  # fmt: skip
  cell = lambda value: value if isinstance(value, str) else number(value)
  body = ([cell(row.get(name)) for name in columns] for row in rows)
  return folded(f"All {len(rows)} cases", table(columns.values(), body, label="Cases"))


def conformance_part(rows: Rows) -> Markup:
  """The checks of the estimators against closed forms and each other, behind a click."""
  met = sum(bool(row["met"]) for row in rows)
  head = ["problem", "estimator", "inner steps", "against", "measured", "threshold"]
  body = (
    [row["problem"], row["estimator"], row["steps"], row["against"], number(row["value"]), number(row["bar"])]
    for row in rows
  )
  return folded(f"Conformance: {met} of {len(rows)} checks hold", table(head, body, label="Conformance"))


def _is(row: Mapping[str, Any], sweep: str, **values: str) -> bool:
  return row["sweep"] == sweep and all(row[name] == value for name, value in values.items())


def _columns(rows: Rows, x: str, y: str, unit: float = 1.0) -> tuple[list[float], list[float]]:
  values = [math.nan if row.get(y) is None else row[y] / unit for row in rows]
  return [row[x] for row in rows], values


def _by_estimator(rows: Rows, x: str, y: str, unit: float) -> list[Curve]:
  named: dict[str, list[Mapping[str, Any]]] = {}
  for row in rows:
    name = f"{row['estimator'].replace('_', ' ')} {row['options'].replace('=', ' ')}".strip()
    named.setdefault(name, []).append(row)
  return [
    Curve(name, *_columns(of_estimator, x, y, unit), index, "points")
    for index, (name, of_estimator) in enumerate(named.items())
  ]
