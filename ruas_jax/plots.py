"""Pictures of a run as PNG: alpha heat maps, loss curves, before/after grids, genotypes as graphs or side by side.

Every function writes its file completely or not at all. Figures do not use pyplot, so they change no global state and
need no display. Images are HWC RGB float in [0, 1].
"""

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from ruas_jax.errors import UserError
from ruas_jax.files import write_atomically
from ruas_jax.lowlight.genotype import CELLS, EDGES, SHORT_NAMES, Genotype, alpha_shares

_DOTS_PER_INCH = 120
_TITLES = {"illumination": "IEM (illumination)", "denoising": "NRM (noise removal)"}
_CHOSEN = "#d62728"
_GREY = "#5f6b76"
_LIGHT = {"conv_1x1": "#9ecae9", "conv_3x3": "#a5d8ae", "dilated_conv_3x3": "#dfb0d8"}  # forms without a residual


def plot_alpha(
  path: str | os.PathLike, alpha: Mapping[str, Any], operation_names: Sequence[str], genotype: Genotype | None = None
) -> None:
  """Heat maps of softmax(alpha), one per cell, side by side. A red box marks the operation of each edge.

  Args:
    path: the PNG file.
    alpha: cell name ("illumination", "denoising") -> architecture logits `[7, O]`, rows in the order of `EDGES`.
    operation_names: the O candidate operations, in the order of the columns.
    genotype: the operations to mark; None: the largest in each row.

  Raises:
    UserError: alpha has another shape, or the softmax of an edge is undefined.
  """
  shares = {
    cell: alpha_shares(logits, cell=cell, operation_names=operation_names)
    for cell, logits in sorted(alpha.items(), key=lambda item: [*CELLS, item[0]].index(item[0]))
  }
  smallest, largest = np.min([*shares.values()]), np.max([*shares.values()])
  digits = 2 if largest - smallest > 0.05 else 3  # after a short search the values are close

  figure = make_figure(0.8 + (1.0 + 0.68 * len(operation_names)) * len(shares), 5.4, layout="constrained")
  axes = figure.subplots(1, len(shares), squeeze=False, sharey=True)[0]
  for axis, (cell, share) in zip(axes, shares.items(), strict=True):
    image = axis.imshow(share, cmap="Blues", vmin=smallest, vmax=largest, aspect="auto")
    axis.set_title(_TITLES.get(cell, cell), fontsize=12)
    axis.set_xticks(range(len(operation_names)), [_words(name) for name in operation_names], rotation=40, ha="right",
                    rotation_mode="anchor")  # fmt: skip
    axis.set_yticks(range(len(EDGES)), [_words(edge) for edge in EDGES])
    axis.tick_params(length=0)
    for (row, column), value in np.ndenumerate(share):
      axis.text(column, row, f"{value:.{digits}f}", ha="center", va="center", fontsize=8.5,
                color="white" if value > 0.4 * smallest + 0.6 * largest else "black")  # fmt: skip
    chosen = [operation_names.index(name) for name in getattr(genotype, cell)] if genotype else share.argmax(axis=1)
    for row, column in enumerate(chosen):
      axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=_CHOSEN, linewidth=2, zorder=3))
  figure.colorbar(image, ax=list(axes), label="softmax(alpha)", pad=0.02, fraction=0.04)
  save_figure(figure, path)


def plot_losses(path: str | os.PathLike, records: Sequence[Mapping[str, Any]]) -> None:
  """Loss curves over the step: a panel for each module and one for both, raw values and their running median.

  Every key that is `loss` or ends in `_loss` is a curve. "illumination" or "denoising" in it selects the panel; the
  rest is the label. Of several records with the same step (a resumed run) the last one is used. None or NaN makes a
  gap.

  Args:
    path: the PNG file.
    records: result of `read_metrics`; records without a `step` or a loss are skipped.

  Raises:
    UserError: no record holds a loss.
  """
  panels: dict[str, dict[str, dict[float, float]]] = {}
  for record in records:
    for key, value in record.items():
      if "step" in record and (key == "loss" or key.endswith("_loss")):
        cell = next((cell for cell in CELLS if cell in key), "")
        label = " ".join(word for word in key.split("_") if word not in (cell, "loss")) or "loss"
        curve = panels.setdefault(cell, {}).setdefault(label, {})
        curve[record["step"]] = np.nan if value is None else float(value)
  if not panels:
    raise UserError(f"{path}: nothing to draw, because no record holds a step and a loss")

  figure = make_figure(5.2 * len(panels), 3.8, layout="constrained")
  axes = figure.subplots(1, len(panels), squeeze=False)[0]
  axes[0].set_ylabel("loss")
  for axis, cell in zip(axes, sorted(panels, key=[*CELLS, ""].index), strict=True):
    for index, (label, curve) in enumerate(panels[cell].items()):
      marker = "." if len(curve) < 30 else None  # a line does not show a single value
      steps, losses = np.asarray(sorted(curve.items())).T
      axis.plot(steps, losses, color=f"C{index}", alpha=0.3, linewidth=0.8, marker=marker)
      finite = np.isfinite(losses)
      axis.plot(steps[finite], _running_median(losses[finite]), color=f"C{index}", linewidth=1.8, label=label)
    values = np.concatenate([list(curve.values()) for curve in panels[cell].values()])
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > 20 * values.min():
      axis.set_yscale("log")
    axis.set_title(_TITLES.get(cell, "both modules" if len(panels) > 1 else "loss"), fontsize=12)
    axis.set_xlabel("step")
    axis.xaxis.get_major_locator().set_params(integer=True)
    tidy(axis)
    axis.legend(frameon=False)
  save_figure(figure, path)


def plot_before_after(
  path: str | os.PathLike, rows: Sequence[Mapping[str, Any]], *, titles: Mapping[str, str] | None = None,
  amplify: bool = False,
) -> None:  # fmt: skip
  """A grid of pictures with a row per photograph: its input, output and (if a row has one) reference.

  Args:
    path: the PNG file.
    rows: one mapping per photograph: `name`; `input`, `output` and optionally `reference`, images `[H, W, 3]`;
      optionally `captions`, column -> text under that picture ("15.2 dB, 0.71").
    titles: column -> heading, if it differs from the column's name.
    amplify: adds a column `amplified`, the input multiplied by the gain that gives it the output's mean.
  """
  titles = titles or {}
  columns = ["input", "amplified", "output", "reference"]
  if not amplify:
    columns.remove("amplified")
  if all(row.get("reference") is None for row in rows):
    columns.remove("reference")

  # One axis in inches over the whole figure: pictures of any shape have equal distances.
  width, gap, head, foot, left = 3.2, 0.08, 0.35, 0.34, 0.35
  heights = [width * row["input"].shape[0] / row["input"].shape[1] for row in rows]
  total = (left + len(columns) * (width + gap), head + sum(heights) + foot * len(rows))
  figure = make_figure(*total)
  axis = _inch_axis(figure, (0.0, 0.0, 1.0, 1.0))
  centered: dict[str, Any] = {"ha": "center", "va": "center"}
  starts = [left + index * (width + gap) for index in range(len(columns))]
  for column, x in zip(columns, starts, strict=True):
    axis.text(x + width / 2, total[1] - head / 2, titles.get(column, column), fontsize=12, **centered)
  bottom = total[1] - head
  for row, height in zip(rows, heights, strict=True):
    bottom -= height
    axis.text(left / 2, bottom + height / 2, row["name"], fontsize=10, rotation=90, **centered)
    gain = np.mean(row["output"]) / max(np.mean(row["input"]), 1e-6)
    pictures = {**row, "amplified": np.asarray(row["input"]) * gain}
    captions = {"amplified": f"× {gain:.1f}", **(row.get("captions") or {})}
    for column, x in zip(columns, starts, strict=True):
      if pictures.get(column) is not None:
        picture = np.clip(np.asarray(pictures[column], np.float32), 0.0, 1.0)
        axis.imshow(picture, extent=(x, x + width, bottom, bottom + height), aspect="auto")
        axis.text(x + width / 2, bottom - 0.38 * foot, captions.get(column, ""), fontsize=10, **centered)
    bottom -= foot
  axis.set(xlim=(0.0, total[0]), ylim=(0.0, total[1]))  # after imshow, which changes the limits
  save_figure(figure, path)


def plot_population(path: str | os.PathLike, summary: Mapping[str, Any]) -> None:
  """The genotypes of a population: for each cell a grid of members and edges, coloured by operation.

  The bar above each edge is the share of members with its most frequent operation, in that operation's colour.

  Args:
    path: the PNG file.
    summary: content of `population.json`; a failed member without a genotype has an empty row.
  """
  members, distinct = summary["members"], len(summary["genotypes"])
  headline = f"{len(members)} searches found {distinct} genotype{'s' if distinct > 1 else ''}"
  words = {"within_setting": "two seeds of one setting", "across_settings_same_seed": "two settings from one seed"}
  pairs = {text: summary["pairs"][name] for name, text in words.items() if summary["pairs"][name] is not None}
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
    heights, colors = [entry["share"] for entry in shares], [_shade(entry["operation"]) for entry in shares]
    for bar, share in zip(bars.bar(range(len(EDGES)), heights, width=0.92, color=colors), heights, strict=True):
      bars.text(bar.get_x() + bar.get_width() / 2, share + 0.03, f"{share:.0%}", ha="center", fontsize=9)
    bars.set(xlim=(-0.5, len(EDGES) - 0.5), ylim=(0, 1.15), xticks=[], yticks=[0, 1] if index == 0 else [])
    bars.set_yticklabels(["0", "100 %"] if index == 0 else [])
    bars.set_title(_TITLES[cell], fontsize=12)
    bars.spines[["top", "right", "left"]].set_visible(False)
    bars.tick_params(length=0)
    for number, genotype in enumerate(chosen):
      operations: tuple[str, ...] = getattr(genotype, cell) if genotype else ()
      for edge, name in enumerate(operations):
        grid.add_patch(Rectangle((edge - 0.46, number - 0.44), 0.92, 0.88, facecolor=_shade(name)))
        grid.text(edge, number, SHORT_NAMES.get(name, name), ha="center", va="center", fontsize=8.5,
                  color="black" if name in _LIGHT else "white")  # fmt: skip
      if not genotype:
        grid.text(3, number, "failed", ha="center", va="center", fontsize=9, color=_CHOSEN)
      if number and members[number]["values"] != members[number - 1]["values"]:  # a new setting begins
        grid.axhline(number - 0.5, color="black", linewidth=0.9)
    grid.set(xlim=(-0.5, len(EDGES) - 0.5), ylim=(len(members) - 0.5, -0.5))
    grid.set_xticks(range(len(EDGES)), [_words(edge).replace(" ", "\n") for edge in EDGES], fontsize=9)
    grid.set_yticks(range(len(members)), labels if index == 0 else [""] * len(members), fontsize=9)
    grid.tick_params(length=0)
    grid.spines[:].set_visible(False)
  handles = [Rectangle((0, 0), 1, 1, facecolor=_shade(name), label=_words(name)) for name in order]
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


def draw_genotype(path: str | os.PathLike, genotype: Genotype) -> None:
  """Both cells as graphs. The remain path is at the top, a distill edge is below each node, and all are fused.

  Edges show their operation; a thin arc is the sum with a remain edge's input. Custom operations are grey.
  """
  figure = make_figure(10.4, 7.6)
  for index, cell in enumerate(CELLS):
    axis = _inch_axis(figure, (0.0, 0.5 - 0.5 * index, 1.0, 0.5))
    axis.set(xlim=(-1.0, 9.4), ylim=(-2.05, 1.75))
    axis.text(-0.8, 1.5, _TITLES[cell], fontsize=14, fontweight="bold", va="center")
    _draw_cell(axis, dict(zip(EDGES, getattr(genotype, cell), strict=True)))
  save_figure(figure, path)


def _draw_cell(axis, operations: Mapping[str, str]) -> None:
  spacing, fusion = 2.5, -1.5
  nodes = [(spacing * index, 0.6) for index in range(4)]
  for level, (x, y) in enumerate(nodes, start=1):
    _arrow(axis, (x, y), (x, fusion + 0.02), _color(operations[f"distill_{level}"]), shrink=(14, 9))
    _label(axis, x, -0.42, operations[f"distill_{level}"])
    if level < 4:
      _arrow(axis, (x, y), nodes[level], _color(operations[f"remain_{level}"]), shrink=(14, 14))
      _label(axis, x + spacing / 2, y, operations[f"remain_{level}"])
      _arrow(axis, (x, y), nodes[level], _GREY, shrink=(14, 14), curve=-0.5, width=0.9)
      axis.text(x + spacing / 2, y + 0.62, "+", color=_GREY, ha="center", va="center",
                bbox={"boxstyle": "circle,pad=0.1", "facecolor": "white", "edgecolor": _GREY})  # fmt: skip
      axis.text(x + spacing / 2, y + 0.34, f"remain {level}", fontsize=8, color=_GREY, ha="center", va="center")
    name = "in" if level == 1 else f"$r_{level - 1}$"
    axis.text(x, y, name, ha="center", va="center", fontsize=11, zorder=4,
              bbox={"boxstyle": "circle,pad=0.28", "facecolor": "white", "edgecolor": "black"})  # fmt: skip
    axis.text(x + 0.1, 0.12, f"distill {level}", fontsize=8, color=_GREY, va="center")
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
  text = _words(operation).replace(" conv ", "\nconv ")
  axis.text(x, y, text, ha="center", va="center", fontsize=9, color="white", zorder=3,
            bbox={"boxstyle": "round,pad=0.35", "facecolor": _color(operation), "edgecolor": "none"})  # fmt: skip


def _color(operation: str) -> str:
  """One hue per kernel: 1x1, 3x3, dilated. skip and custom operations are grey."""
  if operation not in SHORT_NAMES or operation == "skip":
    return _GREY
  if "dilated" in operation:
    return "#a2418f"
  return "#1f77b4" if operation.endswith("1x1") else "#2a8a4a"


def _shade(operation: str) -> str:
  """`_color`; operations without a residual are lighter than those with one."""
  return _LIGHT.get(operation, _color(operation))


def _words(name: str) -> str:
  return name.replace("_", " ").replace("1x1", "1×1").replace("3x3", "3×3")


def _running_median(values: np.ndarray) -> np.ndarray:
  """Median over a centred window of a twentieth of the values, at most 101; the window is cut off at the ends."""
  half = min(len(values) // 40, 50)
  if half == 0:
    return values
  padded = np.pad(values, half, constant_values=np.nan)
  return np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)


def _inch_axis(figure: Figure, box: tuple[float, float, float, float]):
  """An axis without decoration over this part of the figure; the caller sets its limits to its size in inches."""
  axis = figure.add_axes(box)
  axis.set_axis_off()
  return axis


def make_figure(width: float, height: float, **options) -> Figure:
  """An empty white figure of this size in inches; `options` are passed to `matplotlib.figure.Figure`."""
  figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, facecolor="white", **options)
  FigureCanvasAgg(figure)
  if isinstance(engine := figure.get_layout_engine(), ConstrainedLayoutEngine):
    engine.set(w_pad=0.12, h_pad=0.08)
  return figure


def tidy(axis) -> None:
  """A faint grid and no box around the curves."""
  axis.grid(alpha=0.25)
  axis.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
  """Writes the figure as PNG, completely or not at all."""
  content = io.BytesIO()
  figure.savefig(content, format="png", dpi=_DOTS_PER_INCH)
  write_atomically(path, content.getvalue())
