"""A wider space of architectures on LOL: stages and channels beside the operations, against RUAS's own space.

    python -m benchmarks.paper.wide_space --data LOL --workdir runs/wide --picture docs/wide_space.png \\
      --json benchmarks/results/wide_space.json

LOL is a folder with `train/low` and the pairs `dev/{low,high}`. Of both spaces the same number of random architectures
is trained for some hundred steps. In RUAS's space the operations of the 14 edges are drawn, with the stages and
channels of the configuration. In the wide space the stages of both modules and the channels of the noise removal are
drawn too. Of the wide architectures with at most `--share` of the bundled one's operations, the one with the lowest
score without references is then trained by the whole configuration with several seeds, and the bundled one too.
"""

import pathlib
import random
from typing import Any

import numpy as np

from benchmarks.paper.architectures import means, operations_of, train_and_measure
from benchmarks.paper.pictures import save_figure
from benchmarks.paper.setting import paper_parser, train_images
from benchmarks.paper.study import Study, add_study, at_least, open_study, settings_of
from benchmarks.report import print_table, write_report
from ruas_jax.data.sources import ImageSource
from ruas_jax.engine.mesh import one_cpu_device_per_core
from ruas_jax.lowlight.genotype import EDGES, Genotype
from ruas_jax.lowlight.operations import CANDIDATES, operation_names
from ruas_jax.photos.pretrained import load_pretrained
from ruas_jax.plots import make_figure, tidy

WIDE = {
  "network.illumination.stages": (1, 2, 3),
  "network.denoising.stages": (1, 2, 3),
  "network.denoising.channels": (4, 7, 10, 12),
}
"""The choices of the wide space beside the operations: option -> its values."""

Architecture = tuple[Genotype, dict[str, int]]  # the operations, and options of the network


def main(arguments: list[str] | None = None) -> None:
  parser = paper_parser(__doc__.split("\n")[0])
  add_study(parser)
  parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder of all runs; finished ones are kept")
  parser.add_argument("--architectures", type=at_least(1), default=20, help="random architectures of each space")
  parser.add_argument("--short", type=at_least(1), default=500, help="steps of their trainings")
  parser.add_argument("--share", type=float, default=0.6, help="most operations, as a share of the bundled one's")
  parser.add_argument("--seeds", type=at_least(1), default=3, help="number of whole trainings")
  options = parser.parse_args(arguments)
  one_cpu_device_per_core()
  study, images = open_study(options), train_images(options.data)
  count, seeds = (2, 1) if options.quick else (options.architectures, options.seeds)
  bundled: Architecture = load_pretrained("lol").genotype, {}

  rows = []
  for index in range(count):
    for space in ("ruas", "wide"):
      architecture = draw(random.Random(f"{space} {index}"), wide=space == "wide")
      folder = options.workdir / space / str(index)
      steps = {} if options.quick else {"training.steps": options.short}
      rows.append({"space": space} | _measure(folder, study, architecture, images, 1, steps))
  limit = options.share * operations_of(study.config, bundled[0])["operations"]
  affordable = [row for row in rows if row["space"] == "wide" and row["operations"] <= limit]
  best = min(affordable, key=lambda row: row["score"], default=None)
  chosen = {"bundled": bundled}
  if best:
    chosen["wide"] = (Genotype.from_text(best["genotype"]), best["options"])
  whole = [
    {"name": name} | _measure(options.workdir / name, study, architecture, images, seeds)
    for name, architecture in chosen.items()
  ]
  for row in whole:
    row["share"] = row["operations"] / whole[0]["operations"]
  print_table(
    [{key: row[key] for key in ("name", "share", "psnr", "ssim", "score")} for row in whole], "whole trainings"
  )
  write_report(
    options.json,
    settings=settings_of(options, study)
    | {"architectures": count, "short": options.short, "share": options.share, "seeds": seeds, "wide": WIDE},
    results={"random": rows, "stages_and_channels": _by_choice(rows), "whole": whole},
    bars={},
  )
  if options.picture:
    _draw(options.picture, rows, whole)


def draw(source: random.Random, *, wide: bool) -> Architecture:
  """A random architecture of one of the spaces."""
  names = operation_names(CANDIDATES)
  cells = [tuple(source.choice(names) for _ in EDGES) for _ in range(2)]
  return Genotype(*cells), {name: source.choice(values) for name, values in WIDE.items()} if wide else {}


def _measure(
  folder: pathlib.Path,
  study: Study,
  architecture: Architecture,
  images: ImageSource,
  seeds: int,
  overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
  """The cost of an architecture, and the mean figures of its trainings."""
  genotype, options = architecture
  config = study.config.with_overrides(options | (overrides or {}))
  runs = []
  for seed in range(seeds):
    seeded = config.with_overrides({"seed": config.seed + seed})
    runs.append(train_and_measure(folder / str(seed), seeded, genotype, images, study.pairs))
  cost = operations_of(config, genotype)
  return {"genotype": str(genotype), "options": options, "by_seed": runs} | cost | means(runs)


def _by_choice(rows: list[dict[str, Any]]) -> dict[str, dict[int, dict[str, float]]]:
  """Mean figures of the wide architectures by each value of each choice."""
  wide = [row for row in rows if row["space"] == "wide"]
  return {
    name: {
      value: means(chosen) for value in values if (chosen := [row for row in wide if row["options"][name] == value])
    }
    for name, values in WIDE.items()
  }


def front_of(rows: list[dict[str, Any]], figure: str) -> list[dict[str, Any]]:
  """The rows that no other one beats in operations and in the figure, by operations."""
  front = []
  for row in sorted(rows, key=lambda row: (row["operations"], -row[figure])):
    if not front or row[figure] > front[-1][figure]:
      front.append(row)
  return front


def _draw(path: pathlib.Path, rows: list[dict[str, Any]], whole: list[dict[str, Any]]) -> None:
  """PSNR and SSIM against operations, with the front of each space."""
  figure = make_figure(11, 4.2, layout="constrained")
  for axis, name, label in zip(figure.subplots(1, 2), ("psnr", "ssim"), ("PSNR, dB", "SSIM"), strict=True):
    for space, color in (("ruas", "#1f77b4"), ("wide", "#d62728")):
      of_space = [row for row in rows if row["space"] == space]
      text = "RUAS's space" if space == "ruas" else "wide space"
      axis.scatter(
        [row["operations"] for row in of_space], [row[name] for row in of_space], s=18, color=color, alpha=0.6
      )
      front = front_of(of_space, name)
      axis.step(
        [row["operations"] for row in front], [row[name] for row in front], where="post", color=color, label=text
      )
    for row in whole:
      axis.scatter(row["operations"], row[name], marker="*", s=90, color="black", zorder=3)
      axis.annotate(row["name"], (row["operations"], row[name]), xytext=(6, 4), textcoords="offset points", fontsize=9)
    lowest = np.quantile([row[name] for row in rows], 0.1)
    highest = max(row[name] for row in [*rows, *whole])
    axis.set(xlabel="multiply-accumulates per pixel", ylabel=label, xscale="log")
    axis.set_ylim(lowest, highest + 0.1 * (highest - lowest) + 1e-6)
    axis.legend(frameon=False)
    tidy(axis)
  save_figure(figure, path)


if __name__ == "__main__":
  main()
