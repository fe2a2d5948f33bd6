"""The pictures of the study: what was found by each method, and what the spaces look like."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ruas_jax.nas.benchmark import Table
from ruas_jax.plots.figure import make_figure, save_figure, tidy
from ruas_jax.plots.style import GREY, RED

_COLOURS = {"method": "#1f77b4", "hypergradient": "#2a8a4a", "baseline": RED, "none": GREY}


def draw_regrets(path: str | os.PathLike, results: Mapping[str, Mapping[str, Any]]) -> None:
  """The mean regret of every row with its confidence interval, best first, one column for each table."""
  longest = max(len(result["rows"]) for result in results.values())
  figure = make_figure(6.2 * len(results), 1.2 + 0.24 * longest, layout="constrained")
  axes = figure.subplots(1, len(results), squeeze=False)[0]
  for axis, (name, result) in zip(axes, results.items(), strict=True):
    rows = result["rows"][::-1]
    for height, row in enumerate(rows):
      regret, colour = row["regret"], _COLOURS[row["kind"]]
      half = 0 if row["kind"] == "none" else regret["half"]
      axis.errorbar(regret["mean"], height, xerr=half, fmt="o", color=colour, markersize=4, linewidth=1.2)
    axis.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    for label, row in zip(axis.get_yticklabels(), rows, strict=True):
      label.set_color(_COLOURS[row["kind"]])
    without = next(row["regret"]["mean"] for row in rows if row["kind"] == "none")
    axis.axvline(without, color=GREY, linewidth=0.8, linestyle="--")
    axis.set_xlim(left=0)
    axis.set_xlabel(f"regret in {_unit(result['space']['objective'])}, mean and 95 % interval")
    axis.set_title(name)
    tidy(axis)
  save_figure(figure, path)


def draw_qualities(path: str | os.PathLike, tables: Mapping[str, Table]) -> None:
  """Histograms of the quality of all architectures, with the noise between seeds as a bar."""
  figure = make_figure(5.2 * len(tables), 2.8, layout="constrained")
  axes = figure.subplots(1, len(tables), squeeze=False)[0]
  for axis, (name, table) in zip(axes, tables.items(), strict=True):
    values, noise = table.column(), table.noise()
    counts, _, _ = axis.hist(values, bins=50, color="#1f77b4")
    centre, most = float(np.mean(values)), np.max(counts)
    axis.errorbar(centre, 1.08 * most, xerr=noise.noise, color=RED, capsize=3, label="deviation between seeds")
    axis.errorbar(centre, 1.16 * most, xerr=noise.spread, color=GREY, capsize=3, label="between architectures")
    axis.set_xlabel(_unit(table.objective))
    axis.set_ylabel("architectures")
    axis.set_title(f"{name}: {len(table):,} architectures")
    axis.set_ylim(top=1.6 * most)
    axis.legend(frameon=False, fontsize=8, loc="upper left")
    tidy(axis)
  save_figure(figure, path)


def _unit(objective: str) -> str:
  return {"psnr": "PSNR (dB)"}.get(objective, objective)
