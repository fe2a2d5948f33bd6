"""Figure 1: PSNR on LOL over parameters and over operations: our models, the released weights and the paper's numbers.

    python -m benchmarks.paper.fig1 --table1 benchmarks/results/table1.json --table2 benchmarks/results/table2.json \
      --picture docs/fig1.png --json benchmarks/results/fig1.json

Filled points are measured here, on the pairs of both parts of LOL that Table 1 used. Hollow points are quoted from the
paper, which measured on another split, so the two kinds cannot be compared. `--quick` does the same.
"""

import json
import pathlib
from typing import Any

import numpy as np

from benchmarks.paper import published
from benchmarks.paper.setting import paper_parser
from benchmarks.paper.table1 import LOL_PARTS
from benchmarks.report import print_table, write_report
from ruas_jax.errors import UserError
from ruas_jax.plots import make_figure, save_figure, tidy

# Method of Table 1 -> method of Table 2, whose weights are random; its name in the picture; its colour.
_MEASURED = {
  "ours i": ("ours i", "ours, i", "#1f77b4"),
  "ours i+n": ("ours i+n", "ours, i+n", "#1f77b4"),
  "released lol i+n": ("released i+n", "released weights", "#c4661f"),
}
_BASELINE = ("curve_bilateral", "fixed curve + bilateral filter, nothing learned")
_QUOTED_NAMES = {"RUAS_i+n": "RUAS"}  # Table 2 -> Table 1, which has no number for RUAS_i alone
_PAPERS = "RUAS (paper)"
_GREY, _QUOTED = "#5f6b76", "#8b96a1"
_AXES = {
  "parameters": ("parameters", ("MBLLEN", "EnGAN", "KinD", "FIDE")),
  "macs": ("multiply-accumulates at 600x400 pixels", ("MBLLEN", "KinD", "DRBN", "RetinexNet", "GLADNet")),
}
"""Axis -> its title, and the methods whose labels are on the left of their points."""

_SIDES = {
  "right": ((7, 0), "left", "center"),
  "left": ((-7, 0), "right", "center"),
  "above": ((0, 6), "left", "bottom"),
}


def main(arguments: list[str] | None = None) -> None:
  parser = paper_parser(__doc__.split("\n")[0])
  for table in ("table1", "table2"):
    command = f"JSON of benchmarks.paper.{table}"
    parser.add_argument(f"--{table}", metavar="FILE", type=pathlib.Path, required=True, help=command)
  options = parser.parse_args(arguments)
  tables, costs = _read(options.table1, "tables"), _read(options.table2, "rows")
  parts = [tables[name] for name in (f"LOL {part}" for part in LOL_PARTS) if name in tables]
  if not parts:
    raise UserError(f"{options.table1} has no figures of LOL: run benchmarks.paper.table1 with --data")

  points = [
    _joined(parts, method) | {"label": label, "color": color} | _cost(costs, row, options.table2)
    for method, (row, label, color) in _MEASURED.items()
    if all(method in part["methods"] for part in parts)
  ]
  baseline = _joined(parts, _BASELINE[0])
  quoted = [
    {
      "label": _PAPERS if name in _QUOTED_NAMES else name,
      "psnr": published.TABLE_1["LOL"][_QUOTED_NAMES.get(name, name)]["psnr"],
      "parameters": 1e6 * row["size_millions"],
      "macs": 1e9 * row["flops_billions"],
    }
    for name, row in published.TABLE_2["methods"].items()
    if _QUOTED_NAMES.get(name, name) in published.TABLE_1["LOL"]
  ]
  pairs = sum(part["pairs"] for part in parts)
  columns = ("label", "psnr", "parameters", "macs")
  print_table([{name: point[name] for name in columns} for point in points], f"measured on {pairs} pairs of LOL")
  print_table([{name: point[name] for name in columns} for point in quoted], f"quoted, {published.OTHER_SPLIT}")
  if options.picture:
    _draw(options.picture, points, baseline, quoted, pairs)
  write_report(
    options.json,
    settings={"quick": options.quick, "pairs": pairs, "table1": options.table1.name, "table2": options.table2.name},
    results={
      "measured": [{name: point[name] for name in (*columns, "error")} for point in points],
      "baseline": {"method": _BASELINE[0]} | baseline,
      "published": {"points": quoted, "source": f"{published.PAPER}, Tables 1 and 2", "note": published.OTHER_SPLIT},
    },
    bars={},
  )


def _read(path: pathlib.Path, key: str) -> Any:
  try:
    return json.loads(path.read_text())["results"][key]
  except OSError as error:
    raise UserError(f"cannot read {path}: {error.strerror}") from None
  except (ValueError, KeyError, TypeError):
    raise UserError(f"{path} is not the JSON that this command needs: it has no results of {key!r}") from None


def _joined(parts: list[dict], method: str) -> dict[str, float]:
  """Mean PSNR over the pairs of all parts, and its standard error."""
  counts = np.array([part["pairs"] for part in parts])
  figures = [part["methods"][method]["psnr"] for part in parts]
  means, errors = (np.array([figure[name] for figure in figures], float) for name in ("mean", "error"))
  total = counts.sum()
  return {"psnr": float(counts @ means / total), "error": float(np.linalg.norm(counts * errors) / total)}


def _cost(rows: list[dict], method: str, path: pathlib.Path) -> dict[str, float]:
  for row in rows:
    if row["method"] == method and row["weights"] in ("lol", None):
      return {"parameters": row["parameters"], "macs": row["macs"]}
  raise UserError(f"{path} has no row {method!r}")


def _draw(path: pathlib.Path, points: list[dict], baseline: dict, quoted: list[dict], pairs: int) -> None:
  figure = make_figure(11.5, 5.3)
  margins = {"left": 0.06, "right": 0.985, "top": 0.97, "bottom": 0.25, "wspace": 0.05}
  axes = figure.subplots(1, 2, sharey=True, gridspec_kw=margins)
  for axis, (key, (title, left)) in zip(axes, _AXES.items(), strict=True):
    axis.axhline(baseline["psnr"], color=_GREY, linewidth=1, linestyle=(0, (5, 4)), zorder=1)
    for point in quoted:
      axis.plot(point[key], point["psnr"], "o", markersize=7, markerfacecolor="white", markeredgecolor=_QUOTED)
      side = "above" if point["label"] == _PAPERS else "left" if point["label"] in left else "right"
      _label(axis, point, key, _QUOTED, side=side)
    for point in points:
      axis.errorbar(point[key], point["psnr"], point["error"], fmt="o", markersize=8, color=point["color"],
                    elinewidth=1.2, capsize=2.5, zorder=3)  # fmt: skip
      _label(axis, point, key, point["color"], side="right")
    axis.set_xscale("log")
    axis.margins(x=0.09)
    axis.set_xlabel(title, fontsize=11)
    tidy(axis)
  axes[0].set_ylabel("PSNR (dB)", fontsize=11)
  axes[1].annotate(_BASELINE[1], (0.995, baseline["psnr"]), xycoords=("axes fraction", "data"), xytext=(0, 4),
                   textcoords="offset points", ha="right", fontsize=9, color=_GREY)  # fmt: skip
  caption = (
    f"Filled, with standard error, and dashed: measured here on {pairs} pairs of LOL.  "
    f"Hollow: quoted from the paper ({published.PAPER}, Tables 1 and 2),\n"
    "which measured on 100 pairs of its own choice, not named: hollow and filled points are on different images and do "
    "not compare."
  )
  figure.text(0.06, 0.035, caption, fontsize=9.5, color=_GREY, va="bottom", linespacing=1.5)
  save_figure(figure, path)


def _label(axis, point: dict, key: str, color: str, *, side: str) -> None:
  offset, across, along = _SIDES[side]
  axis.annotate(point["label"], (point[key], point["psnr"]), xytext=offset, textcoords="offset points", ha=across,
                va=along, fontsize=9, color=color)  # fmt: skip


if __name__ == "__main__":
  main()
