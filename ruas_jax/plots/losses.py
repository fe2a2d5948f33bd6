"""Loss curves."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.lowlight.genotype import CELLS
from ruas_jax.plots.figure import make_figure, save_figure, tidy
from ruas_jax.plots.style import TITLES


def loss_curves(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
  """The loss curves of a run: module -> label -> (steps, losses), modules in the order of `CELLS` and "" for both.

  Every key that is `loss` or ends in `_loss` is a curve. "illumination" or "denoising" in it is the module; the rest is
  the label. Of several records with the same step (a resumed run) the last one is used. None becomes NaN. Records
  without a `step` are skipped.
  """
  panels: dict[str, dict[str, dict[float, float]]] = {}
  for record in records:
    for key, value in record.items():
      if "step" in record and (key == "loss" or key.endswith("_loss")):
        cell = next((cell for cell in CELLS if cell in key), "")
        label = " ".join(word for word in key.split("_") if word not in (cell, "loss")) or "loss"
        curve = panels.setdefault(cell, {}).setdefault(label, {})
        curve[record["step"]] = np.nan if value is None else float(value)
  return {
    cell: {label: tuple(np.asarray(sorted(curve.items())).T) for label, curve in panels[cell].items()}
    for cell in sorted(panels, key=[*CELLS, ""].index)
  }


def wide_range(losses: Sequence[np.ndarray]) -> bool:
  """Whether these losses need a logarithmic axis."""
  values = np.concatenate(list(losses))
  values = values[np.isfinite(values)]
  return bool(values.size and values.min() > 0 and values.max() > 20 * values.min())


def plot_losses(path: str | os.PathLike, records: Sequence[Mapping[str, Any]]) -> None:
  """Loss curves over the step: a panel for each module and one for both, raw values and their running median. NaN makes
  a gap.

  Args:
    path: the PNG file.
    records: result of `read_metrics`, of which `loss_curves` takes the losses.

  Raises:
    UserError: no record holds a loss.
  """
  panels = loss_curves(records)
  if not panels:
    raise UserError(f"{path}: nothing to draw, because no record holds a step and a loss")

  figure = make_figure(5.2 * len(panels), 3.8, layout="constrained")
  axes = figure.subplots(1, len(panels), squeeze=False)[0]
  axes[0].set_ylabel("loss")
  for axis, (cell, curves) in zip(axes, panels.items(), strict=True):
    for index, (label, (steps, losses)) in enumerate(curves.items()):
      marker = "." if len(steps) < 30 else None  # a line does not show a single value
      axis.plot(steps, losses, color=f"C{index}", alpha=0.3, linewidth=0.8, marker=marker)
      finite = np.isfinite(losses)
      axis.plot(steps[finite], running_median(losses[finite]), color=f"C{index}", linewidth=1.8, label=label)
    if wide_range([losses for _, losses in curves.values()]):
      axis.set_yscale("log")
    axis.set_title(TITLES.get(cell, "both modules" if len(panels) > 1 else "loss"), fontsize=12)
    axis.set_xlabel("step")
    axis.xaxis.get_major_locator().set_params(integer=True)
    tidy(axis)
    axis.legend(frameon=False)
  save_figure(figure, path)


def running_median(values: np.ndarray) -> np.ndarray:
  """Median over a centred window of a twentieth of the values, at most 101; the window is cut off at the ends."""
  half = min(len(values) // 40, 50)
  if half == 0:
    return values
  padded = np.pad(values, half, constant_values=np.nan)
  return np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)
