"""Training with the paper's equations and losses until convergence: quality over the number of steps, by seed.

    python -m benchmarks.paper.convergence --data LOL --picture convergence.png \\
      --json benchmarks/results/lol_paper.json

Trains the published genotype with `--config` (lol_paper or fivek_paper) for several numbers of steps. LOL is a folder
with `train/low` and the pairs `dev/{low,high}`. `--train` selects another source of training images, for example
`darkened:PHOTOGRAPHS` if FiveK is not available. The crops (`--crop`) are smaller than in the configuration, for a
small machine.
"""

from typing import Any

import numpy as np

from benchmarks.paper.pictures import save_figure
from benchmarks.paper.setting import paper_parser, train_images
from benchmarks.paper.study import add_study, at_least, open_study, settings_of, transform_of
from benchmarks.report import print_table, write_report
from ruas_jax.config import Config
from ruas_jax.data.opening import open_source
from ruas_jax.data.sources import ImageArrays, ImageSource, Pairs
from ruas_jax.evaluation.evaluate import evaluate_images
from ruas_jax.evaluation.metrics import PROTOCOL
from ruas_jax.experiments.train import train
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.photos.model import fold
from ruas_jax.plots import make_figure, tidy

_STEPS, _QUICK_STEPS = (100, 200, 400, 800, 1600, 3200), (2, 3)
_LOSSES = ("illumination_train_loss", "denoising_train_loss")
_COLORS = ("#1f77b4", "#d62728")


def main(arguments: list[str] | None = None) -> None:
  parser = paper_parser(__doc__.split("\n")[0])
  add_study(parser, config="lol_paper")
  parser.add_argument("--train", help="training images, instead of LOL's train/low")
  parser.add_argument("--genotype", default="published", help="the architecture (default: published)")
  parser.add_argument("--crop", type=at_least(8), default=128, help="side of the crops in pixels (default: 128)")
  parser.add_argument("--seeds", type=at_least(1), default=3, help="number of trainings for every number of steps")
  options = parser.parse_args(arguments)
  study, genotype = open_study(options), Genotype.load(options.genotype)
  if options.train:
    source = open_source(options.train)
    images = ImageArrays(source.names, list(source))
  else:
    images = train_images(options.data)
  config = study.config
  if not options.quick:
    config = config.with_overrides({"data.crop": options.crop})
  seeds = range(options.seed, options.seed + (1 if options.quick else options.seeds))
  counts = _QUICK_STEPS if options.quick else (options.steps,) if options.steps else _STEPS
  rows = [
    {"steps": steps, "seed": seed} | _train(config.with_overrides({"seed": seed}), steps, genotype, images, study.pairs)
    for steps in counts
    for seed in seeds
  ]
  summary = [_summary(steps, [row for row in rows if row["steps"] == steps]) for steps in counts]
  print_table(summary, f"{options.config}, {len(seeds)} seeds, {len(study.pairs)} pairs of LOL, dev")
  write_report(
    options.json,
    settings=settings_of(options, study._replace(config=config))
    | {
      "genotype": str(genotype),
      "train": (options.train or "LOL").partition(":")[0],
      "images": len(images),
      "protocol": PROTOCOL,
    },
    results={"trainings": rows, "summary": summary},
    bars={},
  )
  if options.picture:
    _draw(options.picture, rows)


def _train(config: Config, steps: int, genotype: Genotype, images: ImageSource, pairs: Pairs) -> dict[str, Any]:
  config = config.with_overrides({"training.steps": steps})
  result = train(config, genotype, images=images)
  last = result.metrics[-max(1, min(100, steps // 2)) :]
  figures = {}
  for variant in ("i", "i+n"):
    model = result.model.with_variant(variant)
    figures[variant] = evaluate_images(transform_of(fold(model)), pairs)["mean"]
  return {name: float(np.median([record[name] for record in last])) for name in _LOSSES} | {"figures": figures}


def _summary(steps: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
  """Means over the seeds, and the range of the PSNR."""
  values = {
    f"{variant} {key}": [row["figures"][variant][key] for row in rows]
    for variant in ("i", "i+n")
    for key in ("psnr", "ssim")
  }
  spread = {f"{name} spread": float(np.ptp(numbers)) for name, numbers in values.items() if name.endswith("psnr")}
  losses = {name: float(np.mean([row[name] for row in rows])) for name in _LOSSES}
  return {"steps": steps} | {name: float(np.mean(numbers)) for name, numbers in values.items()} | spread | losses


def _draw(path, rows: list[dict[str, Any]]) -> None:
  """Draws the quality over the number of steps on the left, and the losses on the right."""
  figure = make_figure(11, 4.2, layout="constrained")
  quality, losses = figure.subplots(1, 2)
  steps = [row["steps"] for row in rows]
  for variant, color in zip(("i", "i+n"), _COLORS, strict=True):
    label = {"i": "after illumination", "i+n": "after noise removal"}[variant]
    quality.scatter(steps, [row["figures"][variant]["psnr"] for row in rows], color=color, s=28, label=label)
  for name, color in zip(_LOSSES, _COLORS, strict=True):
    losses.scatter(steps, [row[name] for row in rows], color=color, s=28, label=name.removesuffix("_train_loss"))
  losses.set_yscale("log")
  quality.set_ylabel("PSNR on LOL (dev), dB")
  losses.set_ylabel("training loss, median of the last steps")
  for axis in (quality, losses):
    axis.set_xscale("log")
    axis.set_xlabel("training steps")
    axis.legend(fontsize=9)
    tidy(axis)
  save_figure(figure, path)


if __name__ == "__main__":
  main()
