"""The trade-off between cost and loss."""

import os
from collections.abc import Mapping
from typing import Any

from ruas_jax.plots.figure import make_figure, save_figure, tidy
from ruas_jax.plots.style import GREY, RED

UNITS = {
  "parameters": "parameters",
  "macs": "multiply-accumulates per pixel",
  "latency": "seconds for an image",
}


def plot_front(path: str | os.PathLike, front: Mapping[str, Any]) -> None:
  """Loss over cost: every member is a point, and those on the front are joined and labelled with their swept values.

  Args:
    path: the PNG file.
    front: content of `front.json`.
  """
  figure = make_figure(6.4, 4.4, layout="constrained")
  axis = figure.subplots()
  best = [point for point in front["points"] if point["on_front"]]
  others = [point for point in front["points"] if not point["on_front"]]
  axis.step(*_columns(best), where="post", color=RED, linewidth=1.2, alpha=0.6)
  axis.scatter(*_columns(others), color=GREY, s=28, alpha=0.7, label="dominated")
  axis.scatter(*_columns(best), color=RED, s=42, zorder=3, label="on the front")
  for point in best:
    values = {path.rpartition(".")[2].replace("_", " "): value for path, value in point["values"].items()}
    text = ", ".join(f"{name} {value:g}" for name, value in values.items())
    axis.annotate(text, (point["cost"], point["loss"]), xytext=(6, 5), textcoords="offset points", fontsize=8.5)
  axis.margins(x=0.15, y=0.12)
  axis.set(xlabel=f"{UNITS.get(front['cost'], front['cost'])} of the derived network", ylabel=front["loss"])
  relative = axis.secondary_xaxis("top", functions=(lambda x: x / front["largest"], lambda x: x * front["largest"]))
  relative.set_xlabel("share of the most expensive architecture")
  tidy(axis)
  axis.legend(frameon=False)
  save_figure(figure, path)


def _columns(points) -> tuple[list[float], list[float]]:
  return [point["cost"] for point in points], [point["loss"] for point in points]
