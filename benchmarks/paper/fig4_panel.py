"""Figure 4: pairs of LOL side by side, with PSNR and SSIM and two enlarged squares each.

    python -m benchmarks.paper.fig4_panel --data LOL --count 4 --released lol.npz --picture fig4.jpg \\
      --json benchmarks/results/fig4_panel.json

LOL is a folder with the pairs `dev/{low,high}`. The squares are chosen on the reference: the one with the most detail,
and the flattest one that is neither dark nor white.
"""

import pathlib

import numpy as np

from benchmarks.paper.pictures import Picture, Row, choose_boxes, evaluate_methods, save_grid
from benchmarks.paper.setting import add_models, compared, open_lol, ours, paper_parser, released
from benchmarks.paper.study import at_least
from benchmarks.paper.table1 import RELEASED_VARIANTS
from benchmarks.report import print_table, write_report
from ruas_jax.evaluation.metrics import PROTOCOL

_BASELINES = {"input": "input", "gain_to_mean": "one gain", "lime": "LIME", "curve_bilateral": "curve + bilateral"}


def main(arguments: list[str] | None = None) -> None:
  parser = paper_parser(__doc__.split("\n")[0])
  add_models(parser, pretrained="lol")
  parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with dev/{low,high}")
  parser.add_argument("--count", type=at_least(1), default=4, help="number of pairs, evenly spaced by name")
  parser.add_argument("--released", metavar="FILE", help="a copy of the authors' released lol weights, .npz or .pt")
  options = parser.parse_args(arguments)
  pairs = open_lol(options.data, "dev", quick=options.quick)
  count = min(len(pairs), options.count)
  pairs = pairs.subset(np.linspace(0, len(pairs) - 1, count).round().astype(int))

  model = ours(options)
  theirs = released(options.released).with_variant(RELEASED_VARIANTS["lol"]) if options.released else None
  methods = compared(model, _BASELINES, theirs)
  figures, columns = evaluate_methods(methods, pairs)
  print_table([{"method": name} | metrics["mean"] for name, metrics in figures.items()], f"{count} pairs of LOL, dev")
  write_report(
    options.json,
    settings={"quick": options.quick, "weights": options.checkpoint or options.pretrained, "protocol": PROTOCOL},
    results={"methods": figures, "weights_sha256": model.weights_sha256()},
    bars={},
  )
  if options.picture:
    rows = [
      Row(
        f"dev {name}",
        [*(column[index] for column in columns.values()), Picture(high, "PSNR / SSIM")],
        choose_boxes(high),
      )
      for index, (name, (_, high)) in enumerate(zip(pairs.names, pairs, strict=True))
    ]
    save_grid(options.picture, rows, columns=[*columns, "reference"])


if __name__ == "__main__":
  main()
