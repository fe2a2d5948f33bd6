"""Ways of exposing, all trained alike with three seeds, the rest of the recipe unchanged.

    python -m benchmarks.paper.exposing --compare light --data LOL --fivek FIVEK --free FREE --night NIGHT \\
      --workdir RUNS --json benchmarks/results/light.json

`--compare brightness`: by the mean of the colours of each pixel, or by the brightest one. The target exposure of the
brightest colour is larger by the ratio of the two measures in the well-lit photographs, so that both expose white light
alike. `--compare light`: of the values of the image or of linear light, by the rational or the exponential curve.

LOL is a folder with `train/low` and the pairs `dev` and `val`, FIVEK one with the pairs `{low,high}`, FREE one with
`train` and `normal`, which are well-lit photographs, and NIGHT has photographs without a reference. Three darkened
photographs of scikit-image are one more set of pairs. The configurations `lol` and `general` train the bundled
genotypes.
"""

import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks.paper.general import kept_out
from benchmarks.paper.setting import configuration, open_lol, paper_parser, train_images
from benchmarks.paper.study import at_least, transform_of
from benchmarks.report import print_table, write_report
from ruas_jax.data.opening import open_source
from ruas_jax.data.sources import ImageArrays, ImageFolder, PairFolders, Pairs
from ruas_jax.data.synthetic import Darkened
from ruas_jax.engine.mesh import one_cpu_device_per_core
from ruas_jax.evaluation.evaluate import evaluate_images
from ruas_jax.evaluation.metrics import psnr
from ruas_jax.evaluation.no_reference import clipped_share
from ruas_jax.experiments.train import train
from ruas_jax.lowlight.illumination import brightness
from ruas_jax.photos.enhancer import Enhancer
from ruas_jax.photos.model import Model, fold
from ruas_jax.photos.pretrained import load_pretrained

# Changes of the configuration's illumination by the name of the way; the first one is the configuration's own.
WAYS: dict[str, dict[str, dict[str, str]]] = {
  "brightness": {"mean": {}, "brightest": {"brightness": "brightest"}},
  "light": {
    "exponential, light": {},
    "rational, light": {"curve": "rational"},
    "rational, values": {"curve": "rational", "light": "encoded"},
  },
}
_QUICK_IMAGES = 2
_SAME = 100.0  # dB, in place of infinity, for a photograph that does not change


def main(arguments: list[str] | None = None) -> None:
  parser = paper_parser(__doc__.split("\n")[0], picture=False)
  for name, text in (("data", "LOL"), ("fivek", "pairs of FiveK"), ("free", "well-lit"), ("night", "no reference")):
    parser.add_argument(f"--{name}", type=pathlib.Path, required=True, help=f"folder of photographs: {text}")
  parser.add_argument("--compare", choices=WAYS, default="light", help="what differs")
  parser.add_argument("--seeds", type=at_least(1), default=3, help="number of trainings of every model")
  parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder of all runs; finished ones are kept")
  options = parser.parse_args(arguments)
  one_cpu_device_per_core()
  count = _QUICK_IMAGES if options.quick else None
  dark = open_source(f"darkened:{options.free / 'train'}")
  trained_on = {"lol": train_images(options.data), "general": ImageArrays(dark.names, list(dark))}
  fivek = PairFolders(options.fivek / "low", options.fivek / "high")
  pairs = {
    "lol": {part: open_lol(options.data, part, quick=options.quick) for part in ("dev", "val")},
    "general": {
      "fivek": fivek.subset(range(len(fivek))[:count]),
      "darkened": Pairs(Darkened(kept_out(), seed=1), kept_out()),
    },
  }
  normal, night = (list(ImageFolder(folder))[:count] for folder in (options.free / "normal", options.night))
  ratio = _ratio(ImageFolder(options.free / "train"))
  rows, ways = [], WAYS[options.compare]
  for name in ("lol", "general"):
    for way, changes in ways.items():
      for seed in range(options.seeds):
        config = configuration(name, seed=seed, quick=options.quick)
        config = config.with_overrides({f"network.illumination.{option}": value for option, value in changes.items()})
        if way == "brightest":
          config = config.with_overrides({"loss.exposure.target": config.loss.exposure.target * ratio})
        folder = options.workdir / f"{name}_{way.replace(', ', '_')}_{seed}"
        genotype = load_pretrained(name).genotype
        model = train(config, genotype, workdir=folder, images=trained_on[name]).model.with_variant("i+n")
        row = {"config": name, "way": way, "seed": seed, "target": config.loss.exposure.target}
        for part, of_part in pairs[name].items():
          row |= {part: evaluate_images(transform_of(fold(model)), of_part)["mean"]}
        if name == "general":
          row |= _without_reference(model, normal, night)
        rows.append(row)
        print(row, flush=True)
  means = [_mean_over_seeds(rows, name, way) for name in ("lol", "general") for way in ways]
  for name in ("lol", "general"):
    print_table([_shown(row) for row in means if row["config"] == name], f"configuration {name}")
  write_report(
    options.json,
    settings={
      "quick": options.quick,
      "compare": options.compare,
      "seeds": options.seeds,
      "ratio_of_the_targets": ratio,
    },
    results={"means": means, "by_seed": rows},
    bars={},
  )


def _ratio(photographs: Iterable[np.ndarray]) -> float:
  """Mean of the brightest colour over the mean of all colours, the median of well-lit photographs."""
  return float(np.median([brightness(image, "brightest").mean() / image.mean() for image in photographs]))


def _without_reference(model: Model, normal: list[np.ndarray], night: list[np.ndarray]) -> dict[str, float]:
  """How much well-lit photographs keep, and what becomes white or loses a colour at night."""
  enhance = Enhancer(model)
  kept = [min(_SAME, psnr(enhance(image.astype(np.float32) / 255), image)) for image in normal]
  clipped = [clipped_share(enhance(image.astype(np.float32) / 255)) for image in night]
  return {"normal_median_psnr": float(np.median(kept)), "night_clipped_share": float(np.mean(clipped))}


def _mean_over_seeds(rows: list[dict[str, Any]], config: str, way: str) -> dict[str, Any]:
  own = [row for row in rows if (row["config"], row["way"]) == (config, way)]
  mean: dict[str, Any] = {"config": config, "way": way}
  for key, value in own[0].items():
    if isinstance(value, dict):
      mean[key] = {metric: float(np.mean([row[key][metric] for row in own])) for metric in value}
    elif key not in ("config", "way", "seed"):
      mean[key] = float(np.mean([row[key] for row in own]))
  return mean


def _shown(row: dict[str, Any]) -> dict[str, Any]:
  flat = {"way": row["way"]}
  for key, value in row.items():
    if isinstance(value, dict):
      flat |= {f"{key} {metric}": number for metric, number in value.items()}
    elif key not in ("config", "way"):
      flat[key] = value
  return flat


if __name__ == "__main__":
  main()
