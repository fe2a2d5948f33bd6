"""The genotypes of a population."""

import os
from collections.abc import Mapping
from typing import Any

from matplotlib.patches import Rectangle

from ruas_jax.lowlight.genotype import CELLS, EDGES, SHORT_NAMES, Genotype
from ruas_jax.plots.figure import make_figure, save_figure
from ruas_jax.plots.style import LIGHT, RED, TITLES, shade_of, words


def plot_population(path: str | os.PathLike, summary: Mapping[str, Any]) -> None:
  """The genotypes of a population: for each cell a grid of members and edges, coloured by operation.

  The bar above each edge is the share of members with its most frequent operation, in that operation's colour.

  Args:
    path: the PNG file.
    summary: content of `population.json`; a failed member without a genotype has an empty row.
  """
  members, distinct = summary["members"], len(summary["genotypes"])
  headline = f"{len(members)} searches found {distinct} genotype{'s' if distinct > 1 else ''}"
  meanings = {"within_setting": "two seeds of one setting", "across_settings_same_seed": "two settings from one seed"}
  pairs = {text: summary["pairs"][name] for name, text in meanings.items() if summary["pairs"][name] is not None}
  shares = "; ".join(f"{text} agree on {share:.0%} of the edges" for text, share in pairs.items())
  chosen = [member["genotype"] and Genotype.from_text(member["genotype"]) for member in members]
  names = {name for genotype in chosen if genotype for cell in CELLS for name in getattr(genotype, cell)}
  order = [*(name for name in SHORT_NAMES if name in names), *sorted(names - set(SHORT_NAMES))]
  labels = [_member_label(member) for member in members]
  left, top, cell_width, row = 0.5 + 0.075 * max(map(len, labels)), 2.35, 4.6, 0.3
  size = (left + 2 * cell_width + 0.7, top + row * len(members) + 1.35)
  figure = make_figure(*size)

  def box(x, y, width, height):  # in inches from the upper left corner
    return figure.add_axes((x / size[0], 1 - (y + height) / size[1], width / size[0], height / size[1]))

  figure.text(left / size[0], 1 - 0.33 / size[1], headline, fontsize=13, fontweight="bold")
  figure.text(left / size[0], 1 - 0.57 / size[1], shares, fontsize=10)
  for index, cell in enumerate(CELLS):
    x = left + index * (cell_width + 0.4)
    bars, grid = box(x, 0.95, cell_width, top - 1.05), box(x, top, cell_width, row * len(members))
    shares = [summary["edges"][cell][edge] for edge in EDGES]
    heights, colors = [entry["share"] for entry in shares], [shade_of(entry["operation"]) for entry in shares]
    for bar, share in zip(bars.bar(range(len(EDGES)), heights, width=0.92, color=colors), heights, strict=True):
      bars.text(bar.get_x() + bar.get_width() / 2, share + 0.03, f"{share:.0%}", ha="center", fontsize=9)
    bars.set(xlim=(-0.5, len(EDGES) - 0.5), ylim=(0, 1.15), xticks=[], yticks=[0, 1] if index == 0 else [])
    bars.set_yticklabels(["0", "100 %"] if index == 0 else [])
    bars.set_title(TITLES[cell], fontsize=12)
    bars.spines[["top", "right", "left"]].set_visible(False)
    bars.tick_params(length=0)
    for number, genotype in enumerate(chosen):
      operations: tuple[str, ...] = getattr(genotype, cell) if genotype else ()
      for edge, name in enumerate(operations):
        grid.add_patch(Rectangle((edge - 0.46, number - 0.44), 0.92, 0.88, facecolor=shade_of(name)))
        grid.text(edge, number, SHORT_NAMES.get(name, name), ha="center", va="center", fontsize=8.5,
                  color="black" if name in LIGHT else "white")  # fmt: skip
      if not genotype:
        grid.text(3, number, "failed", ha="center", va="center", fontsize=9, color=RED)
      if number and members[number]["values"] != members[number - 1]["values"]:  # a new setting begins
        grid.axhline(number - 0.5, color="black", linewidth=0.9)
    grid.set(xlim=(-0.5, len(EDGES) - 0.5), ylim=(len(members) - 0.5, -0.5))
    grid.set_xticks(range(len(EDGES)), [words(edge).replace(" ", "\n") for edge in EDGES], fontsize=9)
    grid.set_yticks(range(len(members)), labels if index == 0 else [""] * len(members), fontsize=9)
    grid.tick_params(length=0)
    grid.spines[:].set_visible(False)
  handles = [Rectangle((0, 0), 1, 1, facecolor=shade_of(name), label=words(name)) for name in order]
  figure.legend(handles=handles, loc="lower center", ncols=4, frameon=False, fontsize=9.5)
  save_figure(figure, path)


def _member_label(member: Mapping[str, Any]) -> str:
  """A short label: the last parts of the paths, as long as they differ between the options."""
  paths = list(member["values"])
  short = {path: path.rpartition(".")[2] for path in paths}
  if len(set(short.values())) < len(paths):
    short = {path: ".".join(path.split(".")[-2:]) for path in paths}
  values = [f"{short[path]} {value:g}" for path, value in member["values"].items()]
  return ", ".join([*values, f"seed {member['seed']}"])
