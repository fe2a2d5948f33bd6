"""A grid of photographs before and after the enhancement."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ruas_jax.plots.figure import inch_axis, make_figure, save_figure


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
  axis = inch_axis(figure, (0.0, 0.0, 1.0, 1.0))
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
