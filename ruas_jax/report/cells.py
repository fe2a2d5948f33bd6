"""A genotype as graphs, the mixing weights of the operations as tables, and the genotypes of a population as a grid."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ruas_jax.lowlight.genotype import CELLS, EDGES, SHORT_NAMES, Genotype
from ruas_jax.plots.style import LIGHT, TITLES, words
from ruas_jax.report.charts import framed
from ruas_jax.report.markup import Markup, element, scrolling, table

LEVELS = 20  # shades of the tables of mixing weights, as in page.css

_SPACING, _ROW, _FUSION = 92, 44, 132  # of the graph, in units of its drawing
_SIZE = (360, 200)


def genotype_graphs(genotype: Genotype) -> list[Markup]:
  """Both cells as graphs. The remain path is at the top, a distill edge is below each node, and all are fused."""
  return [_graph(cell, dict(zip(EDGES, getattr(genotype, cell), strict=True))) for cell in CELLS]


def operation_key(operations: Sequence[str]) -> Markup:
  """The short names of these operations with their colours, and what they stand for."""
  order = [*(name for name in SHORT_NAMES if name in operations), *sorted(set(operations) - set(SHORT_NAMES))]
  shown = (element("li", _chip(name), f" {words(name)}") for name in order)
  return element("ul", shown, class_="legend")


def share_table(
  cell: str,
  shares: np.ndarray,
  operations: Sequence[str],
  chosen: Sequence[str],
  *,
  low: float,
  high: float,
  digits: int,
) -> Markup:
  """The mixing weights `[E, O]` of a cell. The operation that is chosen on an edge has a frame.

  The shades go from `low` to `high`. The numbers have so many `digits`.
  """
  head = [element("td"), *(element("th", _short(name), title=words(name), scope="col") for name in operations)]

  def cell_of(edge, name, share):
    frame = " chosen" if name == chosen[edge] else ""
    shade = round(LEVELS * (float(share) - low) / max(high - low, 1e-9))
    return element("td", f"{share:.{digits}f}", class_=f"s{shade}{frame}")

  rows = (
    [element("th", words(edge), scope="row"), *(cell_of(index, *pair) for pair in zip(operations, row, strict=True))]
    for index, (edge, row) in enumerate(zip(EDGES, shares, strict=True))
  )
  caption = element("caption", TITLES[cell])
  inside = (caption, element("thead", element("tr", head)), element("tbody", (element("tr", row) for row in rows)))
  return scrolling(element("table", *inside, class_="shares", data_cell=cell), label=f"Mixing weights, {TITLES[cell]}")


def agreement_grids(summary: Mapping[str, Any]) -> list[Markup]:
  """For each cell the operations of all members, and the share of members that agree on each edge."""
  return [_grid(cell, summary) for cell in CELLS]


def used_operations(genotypes: Sequence[Genotype]) -> list[str]:
  """The names of the operations in these genotypes."""
  return list({name: None for genotype in genotypes for cell in CELLS for name in getattr(genotype, cell)})


def _graph(cell: str, operations: Mapping[str, str]) -> Markup:
  nodes = [(32 + _SPACING * index, _ROW) for index in range(4)]
  drawn: list[Markup] = []
  for level, (x, y) in enumerate(nodes, start=1):
    distill = operations[f"distill_{level}"]
    drawn += [_arrow(f"M{x} {y + 13}V{_FUSION - 6}", distill), _label(x, (y + _FUSION) / 2 + 4, distill)]
    drawn.append(element("text", f"d{level}", x=x + 5, y=_FUSION - 9, class_="tick"))
    if level < 4:
      end, remain = nodes[level][0], operations[f"remain_{level}"]
      middle = (x + end) / 2
      drawn += [_arrow(f"M{x + 13} {y}H{end - 19}", remain), _label(middle, y, remain)]
      drawn.append(element("path", d=f"M{x + 6} {y - 12}Q{middle} {y - 40} {end - 8} {y - 16}", class_="sum"))
      drawn.append(element("circle", cx=middle, cy=y - 27, r=6, class_="node"))
      drawn.append(element("text", "+", x=middle, y=y - 23.5, class_="tick middle"))
    drawn.append(element("circle", cx=x, cy=y, r=13, class_="node"))
    drawn.append(element("text", "in" if level == 1 else f"r{level - 1}", x=x, y=y + 4, class_="label middle"))
  drawn.append(element("rect", x=10, y=_FUSION, width=340, height=24, rx=4, class_="node"))
  drawn.append(element("text", "concatenate, then 1×1 convolution", x=180, y=_FUSION + 16, class_="label middle"))
  drawn.append(element("path", d=f"M180 {_FUSION + 24}V{_FUSION + 42}", class_="edge"))
  drawn.append(element("path", d=f"M180 {_FUSION + 46}l-4 -8h8z", class_="head"))
  drawn.append(element("text", "out", x=180, y=_FUSION + 60, class_="label middle"))
  spoken = f"{TITLES[cell]}: " + ", ".join(f"{words(edge)} is {words(name)}" for edge, name in operations.items())
  return framed(TITLES[cell], drawn, spoken=spoken, size=_SIZE)


def _arrow(path: str, operation: str) -> Markup:
  """A line to the right or down with a head at its end."""
  start, _, end = path.partition("H" if "H" in path else "V")
  x, y = start[1:].split()
  kind = _kind(operation)
  head = f"M{float(end) + 6:g} {y}l-8 -4v8z" if "H" in path else f"M{x} {float(end) + 6:g}l-4 -8h8z"
  return Markup(element("path", d=path, class_=f"edge {kind}") + element("path", d=head, class_=f"head {kind}"))


def _label(x: float, y: float, operation: str) -> Markup:
  text = _short(operation)
  width = 7.2 * len(text) + 8
  box = element("rect", x=x - width / 2, y=y - 8.5, width=width, height=17, rx=4, class_=f"chip {_kind(operation)}")
  return Markup(box + element("text", text, x=x, y=y + 4, class_=f"chip-text {_kind(operation)}"))


def _grid(cell: str, summary: Mapping[str, Any]) -> Markup:
  head = ["member", *(words(edge) for edge in EDGES)]
  agree = [f"{summary['edges'][cell][edge]['share']:.0%}" if summary["edges"][cell] else "–" for edge in EDGES]
  rows = [[element("strong", "agree"), *(element("strong", share) for share in agree)]]
  for member in summary["members"]:
    genotype = member["genotype"] and Genotype.from_text(member["genotype"])
    rows.append([member["name"], *map(_chip, getattr(genotype, cell) if genotype else [])])
  return table(head, rows, label=TITLES[cell], titled=True)


def _chip(operation: str) -> Markup:
  return element("span", _short(operation), class_=f"chip {_kind(operation)}", title=words(operation))


def _short(operation: str) -> str:
  return SHORT_NAMES.get(operation, words(operation))


def _kind(operation: str) -> str:
  """The class of the page's colour: one hue for each kernel, lighter without a residual; grey for all others."""
  if operation == "skip" or operation not in SHORT_NAMES:
    return "other"
  kernel = "dilated" if "dilated" in operation else f"k{operation[-1]}"
  return f"{kernel} light" if operation in LIGHT else kernel
