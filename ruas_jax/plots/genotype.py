"""A genotype as graphs."""

import os
from collections.abc import Mapping

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from ruas_jax.lowlight.genotype import CELLS, EDGES, Genotype
from ruas_jax.plots.figure import inch_axis, make_figure, save_figure
from ruas_jax.plots.style import GREY, TITLES, color_of, words


def draw_genotype(path: str | os.PathLike, genotype: Genotype) -> None:
  """Both cells as graphs. The remain path is at the top, a distill edge is below each node, and all are fused.

  Edges show their operation; a thin arc is the sum with a remain edge's input. Custom operations are grey.
  """
  figure = make_figure(10.4, 7.6)
  for index, cell in enumerate(CELLS):
    axis = inch_axis(figure, (0.0, 0.5 - 0.5 * index, 1.0, 0.5))
    axis.set(xlim=(-1.0, 9.4), ylim=(-2.05, 1.75))
    axis.text(-0.8, 1.5, TITLES[cell], fontsize=14, fontweight="bold", va="center")
    _draw_cell(axis, dict(zip(EDGES, getattr(genotype, cell), strict=True)))
  save_figure(figure, path)


def _draw_cell(axis, operations: Mapping[str, str]) -> None:
  spacing, fusion = 2.5, -1.5
  nodes = [(spacing * index, 0.6) for index in range(4)]
  for level, (x, y) in enumerate(nodes, start=1):
    _arrow(axis, (x, y), (x, fusion + 0.02), color_of(operations[f"distill_{level}"]), shrink=(14, 9))
    _label(axis, x, -0.42, operations[f"distill_{level}"])
    if level < 4:
      _arrow(axis, (x, y), nodes[level], color_of(operations[f"remain_{level}"]), shrink=(14, 14))
      _label(axis, x + spacing / 2, y, operations[f"remain_{level}"])
      _arrow(axis, (x, y), nodes[level], GREY, shrink=(14, 14), curve=-0.5, width=0.9)
      axis.text(x + spacing / 2, y + 0.62, "+", color=GREY, ha="center", va="center",
                bbox={"boxstyle": "circle,pad=0.1", "facecolor": "white", "edgecolor": GREY})  # fmt: skip
      axis.text(x + spacing / 2, y + 0.34, f"remain {level}", fontsize=8, color=GREY, ha="center", va="center")
    name = "in" if level == 1 else f"$r_{level - 1}$"
    axis.text(x, y, name, ha="center", va="center", fontsize=11, zorder=4,
              bbox={"boxstyle": "circle,pad=0.28", "facecolor": "white", "edgecolor": "black"})  # fmt: skip
    axis.text(x + 0.1, 0.12, f"distill {level}", fontsize=8, color=GREY, va="center")
    axis.text(x + 0.1, fusion + 0.42, f"$d_{level}$", fontsize=11, va="center")
  axis.add_patch(FancyBboxPatch((-0.6, fusion - 0.22), 3 * spacing + 1.2, 0.36, boxstyle="round,pad=0.02",
                                facecolor="#eef1f4", edgecolor="black"))  # fmt: skip
  axis.text(1.5 * spacing, fusion - 0.04, "concatenate, then 1×1 convolution", ha="center", va="center", fontsize=10)
  end = 3 * spacing + 0.62
  _arrow(axis, (end, fusion - 0.04), (end + 0.55, fusion - 0.04), "black")
  axis.text(end + 0.6, fusion - 0.04, "out", va="center", fontsize=11)


def _arrow(axis, start, stop, color, *, shrink=(0, 0), curve=0.0, width=1.8) -> None:
  axis.add_patch(FancyArrowPatch(start, stop, arrowstyle="-|>", mutation_scale=13, color=color, linewidth=width,
                                 shrinkA=shrink[0], shrinkB=shrink[1],
                                 connectionstyle=f"arc3,rad={curve}"))  # fmt: skip


def _label(axis, x: float, y: float, operation: str) -> None:
  text = words(operation).replace(" conv ", "\nconv ")
  axis.text(x, y, text, ha="center", va="center", fontsize=9, color="white", zorder=3,
            bbox={"boxstyle": "round,pad=0.35", "facecolor": color_of(operation), "edgecolor": "none"})  # fmt: skip
