"""Inputs made darker and brighter: does a method adapt its gain, or has it learned the mean of one data set?

    python -m benchmarks.paper.exposures --data LOL --picture exposures.png --json benchmarks/results/exposures.json

Every input of LOL's `dev/{low,high}` is multiplied by a gain and clipped before the method receives it. Its reference
does not change.
"""

import pathlib

import numpy as np

from benchmarks.paper.pictures import save_figure
from benchmarks.paper.setting import open_lol, paper_parser
from benchmarks.paper.study import at_least, transform_of
from benchmarks.report import print_table, write_report
from ruas_jax.evaluation.baselines import BASELINES
from ruas_jax.evaluation.evaluate import evaluate_images
from ruas_jax.evaluation.metrics import PROTOCOL
from ruas_jax.photos.model import fold
from ruas_jax.photos.pretrained import load_pretrained
from ruas_jax.plots import make_figure, tidy

GAINS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_COLORS = {"lol": "#d62728", "general": "#1f77b4", "curve_tv": "#8b96a1", "gain_to_mean": "#c9a227", "input": "#cccccc"}


def main(arguments: list[str] | None = None) -> None:
  parser = paper_parser(__doc__.split("\n")[0])
  parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with dev/{low,high}")
  parser.add_argument("--every", type=at_least(1), default=1, metavar="K", help="use only every K-th pair of dev")
  options = parser.parse_args(arguments)
  pairs = open_lol(options.data, "dev", quick=options.quick)
  pairs = pairs.subset(range(0, len(pairs), options.every))
  methods = {name: transform_of(fold(load_pretrained(name))) for name in ("lol", "general")}
  methods |= {name: BASELINES[name] for name in _COLORS if name in BASELINES}

  rows = []
  for name, method in methods.items():
    for gain in GAINS:
      found = evaluate_images(lambda image, method=method, gain=gain: method(np.clip(gain * image, 0, 1)), pairs)
      each = [figures["psnr"] for figures in found["images"].values()]
      rows.append({"method": name, "gain": gain, **found["mean"], "psnr_std": float(np.std(each)), "worst": min(each)})
  print_table(rows, f"{len(pairs)} pairs of LOL, dev, at other exposures")
  write_report(
    options.json,
    settings={"quick": options.quick, "pairs": pairs.names, "gains": GAINS, "protocol": PROTOCOL},
    results={"rows": rows},
    bars={},
  )
  if options.picture:
    figure = make_figure(7.5, 4.2, layout="constrained")
    axis = figure.subplots()
    for name, color in _COLORS.items():
      selected = [row for row in rows if row["method"] == name]
      axis.plot([row["gain"] for row in selected], [row["psnr"] for row in selected], "o-", color=color, label=name)
    axis.set_xscale("log", base=2)
    axis.set_xticks(GAINS, [f"{gain:g}" for gain in GAINS])
    axis.set(xlabel="the input, times", ylabel="PSNR on LOL (dev), dB")
    figure.legend(loc="outside upper center", ncols=len(_COLORS), fontsize=9, frameon=False)
    tidy(axis)
    save_figure(figure, options.picture)


if __name__ == "__main__":
  main()
