"""Table 1: PSNR and SSIM on pairs of LOL and FiveK, with baselines; and metrics of photographs without a reference.

    python -m benchmarks.paper.table1 --data LOL --fivek FIVEK --real FOLDER --released lol=FILE --released upe=FILE \
      --json benchmarks/results/table1.json

LOL is a folder with the pairs `dev/{low,high}` and `val/{low,high}`. FIVEK is a folder with `low` and `high`, or
`fivek:test:FOLDER` for 100 pairs of a copy of all 5,000. FOLDER holds night photographs. Only the data that are given
are measured. The standard error is that of the mean over the images.
"""

import argparse
import pathlib
from collections.abc import Iterable

import numpy as np

from benchmarks.paper import published
from benchmarks.paper.setting import Transform, open_lol, paper_parser, released
from benchmarks.report import print_table, write_report
from ruas_jax.data.opening import open_pairs
from ruas_jax.data.sources import ImageFolder, ImageSource, Pairs, Subset
from ruas_jax.evaluation.baselines import BASELINES
from ruas_jax.evaluation.evaluate import evaluate_images
from ruas_jax.evaluation.metrics import PROTOCOL, finite_or_none
from ruas_jax.evaluation.no_reference import no_reference
from ruas_jax.lowlight.options import Variant
from ruas_jax.photos.enhancer import Enhancer
from ruas_jax.photos.model import Model
from ruas_jax.photos.pretrained import Pretrained, load_pretrained

RELEASED_VARIANTS: dict[str, Variant] = {"lol": "i+n", "upe": "i", "dark": "i"}
"""The released weights, each with the variant for which the authors use it."""

VARIANTS: tuple[Variant, ...] = ("i", "i+n")
LOL_PARTS = ("dev", "val")

_QUICK_IMAGES = 2
_OWN_COPY = "a user's own pairs; the 100 test images of the paper are not named"


def main(arguments: list[str] | None = None) -> None:
  parser = paper_parser(__doc__.split("\n")[0], picture=False)
  parser.add_argument("--data", type=pathlib.Path, help="folder with dev/{low,high} and val/{low,high}")
  parser.add_argument("--fivek", help="pairs of FiveK: a folder with low and high, or fivek:test:FOLDER")
  parser.add_argument("--real", help="folder of night photographs without reference")
  parser.add_argument(
    "--released", type=_released, action="append", default=[], metavar="NAME=FILE",
    help=f"a copy of released weights, .npz or .pt; NAME is {', '.join(RELEASED_VARIANTS)}",
  )  # fmt: skip
  options = parser.parse_args(arguments)
  if not (options.data or options.fivek or options.real):
    parser.error("at least one of --data, --fivek and --real is needed")
  theirs = {name: released(path).with_variant(RELEASED_VARIANTS[name]) for name, path in options.released}

  tables = {}
  sets = [(f"LOL {part}", "lol", "lol", None) for part in LOL_PARTS] if options.data else []
  sets += [("FiveK", "general", "upe", _OWN_COPY)] if options.fivek else []
  for title, pretrained, other, note in sets:
    pairs = _open(title, options)
    models = _models(pretrained, {other: theirs[other]} if other in theirs else {})
    tables[title] = {
      "pairs": len(pairs),
      "weights": pretrained,
      "note": note,
      "methods": {name: _with_reference(transform, pairs) for name, transform in _transforms(models).items()},
    }
    _print(f"{title}: {len(pairs)} pairs, ± standard error", tables[title]["methods"], errors=True)
  photographs = None
  if options.real:
    images = ImageFolder(options.real)
    images = Subset(images, range(min(len(images), _QUICK_IMAGES))) if options.quick else images
    methods = {
      name: _without_reference(transform, images) for name, transform in _transforms(_models("general", theirs)).items()
    }
    photographs = {"images": len(images), "weights": "general", "methods": methods}
    _print(f"{len(images)} photographs without reference", methods, errors=False)
  models = {table["weights"]: load_pretrained(table["weights"]) for table in (*tables.values(), photographs) if table}
  models |= {f"released {name}": model for name, model in theirs.items()}
  quoted = {"Table 1": published.TABLE_1, "LOL eval15": published.EVAL15}
  for data in ("LOL", "FiveK"):
    rows = [{"method": name} | figures for name, figures in published.TABLE_1[data].items()]
    print_table(rows, f"{data}, quoted: {published.TABLE_1['source']}, {published.OTHER_SPLIT}")
  write_report(
    options.json,
    settings={"quick": options.quick, "protocol": PROTOCOL, "error": "standard error of the mean over the images"},
    results={
      "tables": tables,
      "photographs": photographs,
      "weights_sha256": {name: model.weights_sha256() for name, model in models.items()},
      "published": quoted,
    },
    bars={},
  )


def _released(text: str) -> tuple[str, str]:
  name, _, path = text.partition("=")
  if name not in RELEASED_VARIANTS or not path:
    raise argparse.ArgumentTypeError(f"{text!r}: must be NAME=FILE, where NAME is {', '.join(RELEASED_VARIANTS)}")
  return name, path


def _open(title: str, options: argparse.Namespace) -> Pairs:
  if title == "FiveK":
    pairs = open_pairs(options.fivek)
    return pairs.subset(range(min(len(pairs), _QUICK_IMAGES))) if options.quick else pairs
  return open_lol(options.data, title.split()[1], quick=options.quick)


def _models(pretrained: Pretrained, theirs: dict[str, Model]) -> dict[str, Model]:
  """Method -> model: our weights in both variants, the released weights in their variant."""
  models = {f"ours {variant}": load_pretrained(pretrained).with_variant(variant) for variant in VARIANTS}
  return models | {f"released {name} {model.options.variant}": model for name, model in theirs.items()}


def _transforms(models: dict[str, Model]) -> dict[str, Transform]:
  return {name: Enhancer(model) for name, model in models.items()} | BASELINES


def _with_reference(transform: Transform, pairs: Pairs) -> dict[str, dict[str, float | None]]:
  return _summary(evaluate_images(transform, pairs)["images"].values())


def _without_reference(transform: Transform, images: ImageSource) -> dict[str, dict[str, float | None]]:
  return _summary([no_reference(image, transform(image.astype(np.float32) / 255)) for image in images])


def _summary(images: Iterable[dict[str, float | None]]) -> dict[str, dict[str, float | None]]:
  """Metric -> its mean and the standard error of the mean; None if it has none."""
  images = list(images)
  summary = {}
  for name in images[0]:
    values = np.asarray([np.nan if image[name] is None else image[name] for image in images])
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    summary[name] = {"mean": finite_or_none(float(values.mean())), "error": finite_or_none(float(error))}
  return summary


def _print(title: str, methods: dict[str, dict[str, dict[str, float | None]]], *, errors: bool) -> None:
  def text(figure):
    shown = errors and figure["mean"] is not None and figure["error"] is not None
    return f"{figure['mean']:.4g} ± {figure['error']:.1g}" if shown else figure["mean"]

  rows = [
    {"method": name.replace("_", " ")} | {key.replace("_", " "): text(figure) for key, figure in figures.items()}
    for name, figures in methods.items()
  ]
  print_table(rows, title, width=120)


if __name__ == "__main__":
  main()
