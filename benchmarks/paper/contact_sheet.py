"""A contact sheet of public photographs: scikit-image's, darkened and unchanged, and enhanced.

    python -m benchmarks.paper.contact_sheet --picture docs/contact_sheet.jpg --json contact_sheet.json

The bundled `general` weights were not trained on them. A photograph in good light should not change.
"""

from benchmarks.paper.general import kept_out
from benchmarks.paper.pictures import Picture, Row, evaluate_methods, save_grid
from benchmarks.paper.setting import add_models, compared, ours, paper_parser
from benchmarks.report import print_table, write_report
from ruas_jax.data.sources import ImageArrays, Pairs
from ruas_jax.data.synthetic import Darkened
from ruas_jax.evaluation.metrics import PROTOCOL

_BASELINES = {"input": "input", "gain_to_mean": "one gain", "curve_tv": "curve and total variation"}
_QUICK_STRIDE = 8


def main(arguments: list[str] | None = None) -> None:
  parser = paper_parser(__doc__.split("\n")[0])
  add_models(parser, pretrained="general")
  options = parser.parse_args(arguments)
  photographs = kept_out()
  if options.quick:
    small = [image[::_QUICK_STRIDE, ::_QUICK_STRIDE] for image in photographs]
    photographs = ImageArrays(photographs.names, small)
  light = list(photographs)
  names = [f"{name}{kind}" for kind in (", darkened", "") for name in photographs.names]
  pairs = Pairs(ImageArrays(names, [*Darkened(photographs, seed=1), *light]), ImageArrays(names, 2 * light))

  model = ours(options)
  reports, columns = evaluate_methods(compared(model, _BASELINES), pairs)
  figures = {method: report["images"] for method, report in reports.items()}
  rows = [
    Row(name, [*(column[index] for column in columns.values()), Picture(high, "PSNR / SSIM")])
    for index, (name, (_, high)) in enumerate(zip(names, pairs, strict=True))
  ]
  shown = {name: {method: metrics[name]["psnr"] for method, metrics in figures.items()} for name in names}
  print_table([{"photograph": name} | row for name, row in shown.items()], "PSNR, dB (none: equal)")
  write_report(
    options.json,
    settings={"quick": options.quick, "weights": options.checkpoint or options.pretrained, "protocol": PROTOCOL},
    results={"methods": figures, "weights_sha256": model.weights_sha256()},
    bars={},
  )
  if options.picture:
    save_grid(options.picture, rows, columns=[*columns, "photograph"])


if __name__ == "__main__":
  main()
