"""Figure 7: RUAS_i compared with RUAS_i+n: the effect of noise removal on noisy images.

    python -m benchmarks.paper.fig7_noise --data LOL --picture fig7.jpg --json benchmarks/results/fig7_noise.json

LOL is a folder with the pairs `dev/{low,high}` and `val/{low,high}`. Without it, only the other half is measured:
photographs from scikit-image, darkened to 5 % of their light by `ruas_jax.data.synthetic.darken` with several levels of
noise. The full well is the number of electrons at which a sensor saturates; fewer electrons mean more noise.
"""

import argparse
import pathlib

import numpy as np

from benchmarks.paper.pictures import Picture, Row, choose_boxes, evaluate_pictures, save_grid
from benchmarks.paper.setting import add_models, open_lol, ours, paper_parser
from benchmarks.paper.study import at_least, transform_of
from benchmarks.paper.table1 import VARIANTS
from benchmarks.report import print_table, write_report
from ruas_jax.data.sources import ImageArrays, Pairs
from ruas_jax.data.synthetic import builtin_pairs, darken
from ruas_jax.evaluation.baselines import BASELINES
from ruas_jax.evaluation.metrics import PROTOCOL
from ruas_jax.evaluation.no_reference import flat_noise
from ruas_jax.photos.model import Model, fold

FULL_WELLS = (16000, 4000, 1000)
_EXPOSURE = 0.05
_COLUMNS = ("input", "one gain", "RUAS$_i$", "RUAS$_{i+n}$", "reference")
_DARKENED = "photographs, full well {}"


def main(arguments: list[str] | None = None) -> None:
  parser = paper_parser(__doc__.split("\n")[0])
  add_models(parser, pretrained="lol")
  parser.add_argument("--data", type=pathlib.Path, help="folder with dev/{low,high} and val/{low,high}")
  parser.add_argument("--count", type=at_least(1), default=2, help="number of dev pairs in the picture, the noisiest")
  options = parser.parse_args(arguments)
  sets: dict[str, tuple[Pairs, Model]] = {}
  if options.data:
    model = ours(options)
    sets |= {part: (open_lol(options.data, part, quick=options.quick), model) for part in ("dev", "val")}
  model = ours(argparse.Namespace(checkpoint=options.checkpoint, pretrained="general"))
  for full_well in FULL_WELLS[-1:] if options.quick else FULL_WELLS:
    sets[_DARKENED.format(full_well)] = (_darkened(full_well), model)

  shown = {"dev": options.count, list(sets)[-1]: 1}  # in the picture
  results, rows = {}, []
  for name, (pairs, model) in sets.items():
    transforms = {variant: transform_of(fold(model.with_variant(variant))) for variant in VARIANTS}
    reports, pictures = {}, {}
    for variant, transform in transforms.items():
      reports[variant], pictures[variant] = evaluate_pictures(transform, pairs)
    noise = [flat_noise(low, picture.image) for low, picture in zip(pairs.low, pictures["i"], strict=True)]
    means = {variant: report["mean"] for variant, report in reports.items()}
    results[name] = means | {
      "gain": {key: means["i+n"][key] - means["i"][key] for key in means["i"]},
      "images": {variant: report["images"] for variant, report in reports.items()},
      "flat_noise_before_removal": float(np.mean(noise)),
      "pairs": len(pairs),
      "weights_sha256": model.weights_sha256(),
    }
    noisiest = np.argsort(noise)[::-1][: shown.get(name, 0)]
    rows += [_row(name, pairs, int(index), pictures) for index in noisiest]
  print_table(
    [
      {"images": name}
      | {f"{variant} {key}": metrics[variant][key] for variant in (*VARIANTS, "gain") for key in metrics["gain"]}
      for name, metrics in results.items()
    ],
    "RUAS_i against RUAS_i+n",
  )
  write_report(
    options.json,
    settings={"quick": options.quick, "exposure": _EXPOSURE, "checkpoint": options.checkpoint, "protocol": PROTOCOL},
    results=results,
    bars={},
  )
  if options.picture:
    save_grid(options.picture, rows, columns=_COLUMNS)


def _darkened(full_well: float) -> Pairs:
  high = builtin_pairs("evaluation").high
  low = [
    darken(image, rng=np.random.default_rng(index), exposure=_EXPOSURE, full_well=full_well)
    for index, image in enumerate(high)
  ]
  return Pairs(ImageArrays(high.names, low), high)


def _row(name: str, pairs: Pairs, index: int, pictures: dict[str, list[Picture]]) -> Row:
  pair = pairs.subset([index])
  plain = [evaluate_pictures(BASELINES[name], pair)[1][0] for name in ("input", "gain_to_mean")]
  reference = pairs.high[index]
  shown = [*plain, *(pictures[variant][index] for variant in VARIANTS), Picture(reference, "PSNR / SSIM")]
  return Row(f"{name} {pairs.names[index]}" if name == "dev" else pairs.names[index], shown, choose_boxes(reference))


if __name__ == "__main__":
  main()
