"""Figures 3 and 5: night photographs without a reference, before and after, and the results of classical methods.

    python -m benchmarks.paper.fig3_night --folder DARKFACE --count 6 --released dark.npz --picture fig3.jpg \\
      --json benchmarks/results/fig3_night.json

FOLDER holds photographs, for example a copy of DarkFace or ExtremelyDarkFace. The report has the mean brightness of
every picture and the share of its pixels that are saturated in at least one channel.
"""

import pathlib

import numpy as np

from benchmarks.paper.pictures import Picture, Row, save_grid
from benchmarks.paper.setting import add_models, compared, ours, paper_parser, released
from benchmarks.paper.study import at_least
from benchmarks.paper.table1 import RELEASED_VARIANTS
from benchmarks.report import print_table, write_report
from ruas_jax.data.sources import ImageFolder
from ruas_jax.evaluation.metrics import to_uint8
from ruas_jax.evaluation.no_reference import clipped_share

_BASELINES = {"input": "input", "gain_to_mean": "one gain", "curve": "fixed curve", "lime": "LIME"}
_QUICK_IMAGES = 2


def main(arguments: list[str] | None = None) -> None:
  parser = paper_parser(__doc__.split("\n")[0])
  add_models(parser, pretrained="general")
  parser.add_argument("--folder", type=pathlib.Path, required=True, help="folder of photographs: .png, .jpg and others")
  parser.add_argument("--count", type=at_least(1), default=6, help="number of photographs, evenly spaced by name")
  parser.add_argument("--released", metavar="FILE", help="a copy of the authors' released dark weights, .npz or .pt")
  options = parser.parse_args(arguments)
  source = ImageFolder(options.folder)
  count = min(len(source), _QUICK_IMAGES if options.quick else options.count)
  chosen = np.linspace(0, len(source) - 1, count).round().astype(int)

  model = ours(options)
  theirs = released(options.released).with_variant(RELEASED_VARIANTS["dark"]) if options.released else None
  methods = compared(model, _BASELINES, theirs)

  figures, rows = {}, []
  for index in chosen:
    image = source[index].astype(np.float32) / 255
    results = {method: to_uint8(transform(image)) for method, transform in methods.items()}
    metrics = {
      method: {"clipped_share": clipped_share(result), "brightness": float(result.mean() / 255)}
      for method, result in results.items()
    }
    name = source.names[index]
    figures[name] = metrics
    rows.append(Row(pathlib.Path(name).stem, [Picture(results[method], _text(metrics[method])) for method in methods]))
  mean = {
    method: {
      key: float(np.mean([metrics[method][key] for metrics in figures.values()]))
      for key in next(iter(metrics.values()))
    }
    for method in methods
  }
  print_table([{"method": name} | row for name, row in mean.items()], f"mean over {count} photographs")
  write_report(
    options.json,
    settings={"quick": options.quick, "weights": options.checkpoint or options.pretrained},
    results={"images": figures, "mean": mean, "weights_sha256": model.weights_sha256()},
    bars={},
  )
  if options.picture:
    save_grid(options.picture, rows, columns=list(methods))


def _text(figures) -> str:
  return f"mean {figures['brightness']:.2f}, {figures['clipped_share']:.1%} clipped"


if __name__ == "__main__":
  main()
