"""Pictures of the study as PNG files: the finite difference's V-curve; error and cost over the horizon; error over the
inner learning rate; and the terms of the hypergradient during a search."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ruas_jax.hypergradient_study.bars import DECADE
from ruas_jax.hypergradient_study.measure import Row
from ruas_jax.plots import make_figure, save_figure, tidy

_DTYPES = {"float64": "-", "float32": "--"}
# Sizes for the curves of the horizon plot, so that equal curves are visible: large markers are drawn first.
_MARKERS = [
  {"marker": kind, "markersize": size} for kind, size in zip("osD^vP*X", (9, 7.5, 5, 5, 5, 4, 4, 4), strict=True)
]
_LOSSES = {"raw": ("C3", "losses as they are, with kinks"), "smoothed": ("C0", "kinks rounded")}


def plot_epsilon(path: str | os.PathLike, rows: Sequence[Row]) -> None:
  """The V-curve: rounding errors on the left, the error of the difference itself on the right."""
  figure = make_figure(7.2, 5.2, layout="constrained")
  axis = figure.subplots()
  for losses, (color, words) in _LOSSES.items():
    for dtype, line in _DTYPES.items():
      selected = [row for row in rows if row["sweep"] == "epsilon" and (row["losses"], row["dtype"]) == (losses, dtype)]
      if selected:
        _curve(
          axis, selected, "epsilon", "implicit_relative_error", color=color, linestyle=line, label=f"{words}; {dtype}"
        )
  axis.axvspan(*DECADE, color="black", alpha=0.06, linewidth=0)
  axis.axvline(0.01, color="black", linewidth=0.8)
  axis.annotate("DARTS' ε", (0.01, 1), (3, -3), xycoords=("data", "axes fraction"), textcoords="offset points",
                va="top", fontsize=9)  # fmt: skip
  axis.axhline(1, color="grey", linewidth=0.8, linestyle=":")
  axis.annotate("as wrong as leaving the term out", (0, 1), (4, 3), xycoords=("axes fraction", "data"),
                textcoords="offset points", fontsize=8.5, color="grey")  # fmt: skip
  axis.set_xscale("log")
  axis.set_yscale("log")
  axis.set_xlabel("ε: how far the difference moves the weights (Euclidean norm)")
  axis.set_ylabel("error / norm of the exact implicit term")
  axis.set_title("Finite difference against the exact one-step hypergradient", fontsize=12)
  tidy(axis)
  figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
  save_figure(figure, path)


def plot_horizon(path: str | os.PathLike, rows: Sequence[Row]) -> None:
  """Error, time and memory of the estimators over the number of inner steps; one-step estimators are horizontal
  lines."""
  selected = [row for row in rows if row["sweep"] == "horizon"]
  longest = max(row["steps"] for row in selected)
  panels = (
    ("relative_error", 1.0, f"relative error against {selected[0]['reference']}", "error"),
    ("milliseconds", 1.0, "milliseconds for one hypergradient", "time"),
    ("temporary_bytes", 2**20, "MiB without inputs and outputs", "memory"),
  )
  figure = make_figure(14.0, 4.9, layout="constrained")
  axes = figure.subplots(1, len(panels))
  for axis, (column, unit, label, title) in zip(axes, panels, strict=True):
    for index, name in enumerate(dict.fromkeys(map(_name, selected))):
      curve = [row for row in selected if _name(row) == name]
      if name in ("first order", "finite difference"):
        level = curve[0][column]
        if level:
          axis.axhline(level / unit, color=f"C{index}", linewidth=1, linestyle=":", label=f"{name}, 1 step")
        continue
      _curve(axis, curve, "steps", column, color=f"C{index}", unit=unit, label=name, **_MARKERS[index])
    axis.set_xscale("log", base=2)
    if column == "milliseconds":
      axis.set_yscale("log")
    else:
      axis.set_ylim(bottom=0)
    ticks = sorted({row["steps"] for row in selected})
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.set_xlim(0.9, longest * 1.12)
    axis.set_xlabel("T, inner steps looked ahead")
    axis.set_ylabel(label)
    axis.set_title(title, fontsize=12)
    tidy(axis)
  figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside lower center", ncols=4)
  save_figure(figure, path)


def plot_rate(path: str | os.PathLike, rows: Sequence[Row]) -> None:
  """Errors of the one-step estimators over the inner optimiser's learning rate."""
  selected = [row for row in rows if row["sweep"] == "rate" and row["estimator"] != "unrolled"]  # unrolled is exact
  figure = make_figure(6.4, 4.4, layout="constrained")
  axis = figure.subplots()
  for index, name in enumerate(dict.fromkeys(map(_name, selected))):
    curve = [row for row in selected if _name(row) == name]
    _curve(axis, curve, "rate", "relative_error", color=f"C{index}", label=name)
  axis.set_xscale("log")
  axis.set_yscale("log")
  axis.set_xlabel("rate of the inner optimiser")
  axis.set_ylabel(f"relative error against {selected[0]['reference']}")
  axis.set_title("Estimates of one step, by the rate of that step", fontsize=12)
  tidy(axis)
  axis.legend(frameon=False, fontsize=9)
  save_figure(figure, path)


def has_terms(records: Sequence[Mapping[str, Any]], player: str) -> bool:
  """Whether a search measured the terms of this player's hypergradient (`search.diagnostics.every`)."""
  return any(f"{player}_total_norm" in record for record in records)


def plot_decomposition(path: str | os.PathLike, records: Sequence[Mapping[str, Any]], *, player: str) -> None:
  """The terms of a player's hypergradient during a search for which `has_terms` is true."""
  measured = [record for record in records if f"{player}_total_norm" in record]
  steps = [record["step"] for record in measured]
  terms = {
    "direct": "direct: through α alone",
    "shift": "shift: what the inner step changes in it",
    "implicit": "implicit: through the weights",
  }
  figure = make_figure(11.0, 4.6, layout="constrained")
  sizes, angles = figure.subplots(1, 2)
  marker = "." if len(steps) < 60 else None
  for index, (term, words) in enumerate(terms.items()):
    style = {"color": f"C{index}", "label": words, "marker": marker, "linewidth": 1.4}
    sizes.plot(steps, _values(measured, f"{player}_{term}_norm"), **style)
    angles.plot(steps, _values(measured, f"{player}_{term}_cosine"), **style)
  sizes.plot(steps, _values(measured, f"{player}_total_norm"), color="black", linewidth=0.8, label="their sum")
  sizes.set_yscale("log")
  sizes.set_ylabel("Euclidean norm")
  sizes.set_title("size of each term", fontsize=12)
  angles.set_ylim(-1.05, 1.05)
  angles.set_ylabel("cosine with the whole hypergradient")
  angles.set_title("direction of each term", fontsize=12)
  for axis in (sizes, angles):
    axis.set_xlabel("step of the search")
    axis.xaxis.get_major_locator().set_params(integer=True)
    tidy(axis)
  figure.legend(*sizes.get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside lower center", ncols=4)
  save_figure(figure, path)


def _curve(axis, rows, x, y, *, unit=1.0, marker="o", markersize=4.0, **style) -> None:
  """One curve. A value that is missing, not finite or zero leaves a gap, because the axis is logarithmic."""
  values = _values(rows, y) / unit
  values = np.where(values > 0, values, np.nan)
  axis.plot([row[x] for row in rows], values, linewidth=1.5, marker=marker, markersize=markersize, **style)


def _values(rows, column) -> np.ndarray:
  return np.array([np.nan if row.get(column) is None else row[column] for row in rows], float)


def _name(row: Row) -> str:
  return " ".join([row["estimator"].replace("_", " "), row["options"].replace("=", " ")]).strip()
