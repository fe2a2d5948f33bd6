"""Pictures of the benchmark of bilevel solvers."""

import pathlib
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

_COLOURS = plt.get_cmap("tab20").colors  # pyright: ignore[reportAttributeAccessIssue]


def draw_curves(cases: dict[str, Any], folder: pathlib.Path) -> None:
  """`bilevel_calls.png` and `bilevel_time.png`: a panel for each problem, a curve for each solver."""
  for axis, label, name in (("passes", "oracle calls / examples", "calls"), ("seconds", "seconds", "time")):
    columns = min(4, len(cases))
    rows = -(-len(cases) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(3.4 * columns, 2.7 * rows), squeeze=False)
    for panel, (title, case) in zip(panels.flat, cases.items(), strict=False):
      start = next(iter(case["solvers"].values()))["suboptimality"][0]
      low = start * (1e-6 if case["is_known"] else 1e-3)  # float32; or only the order of the last points of the runs
      for colour, (solver, curve) in zip(_COLOURS, case["solvers"].items(), strict=False):
        height = np.array(curve["suboptimality"])
        panel.plot(np.array(curve[axis])[1:], np.maximum(height, low)[1:], color=colour, label=solver, linewidth=1.2)
      panel.set(title=title.replace("_", " "), xscale="log", yscale="log", ylim=(low, 5 * start))
      panel.tick_params(labelsize=7)
    for panel in panels.flat[len(cases) :]:
      panel.axis("off")
    figure.supxlabel(label)
    figure.supylabel("value(alpha) − best")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=7, frameon=False, bbox_to_anchor=(0.5, -0.1 / rows - 0.04))
    figure.tight_layout()
    figure.savefig(folder / f"bilevel_{name}.png", dpi=110, bbox_inches="tight")
    plt.close(figure)
