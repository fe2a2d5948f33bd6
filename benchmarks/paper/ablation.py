"""Ablation: the trained model with parts of it switched off, on pairs of LOL.

    python -m benchmarks.paper.ablation --data LOL --retrain --picture ablation.png \\
      --json benchmarks/results/ablation.json

LOL is a folder with the pairs `dev/{low,high}`, and with `train/low` for `--retrain`. `SWITCHED` are variants of the
trained weights, changed after training; they show what a part does in this model. `RETRAINED` are variants that are
trained without a part, with the same configuration and seed as a retrained whole model; they show what the part gains.
A gain is the metric of the whole model minus that of the variant.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.paper.pictures import save_figure
from benchmarks.paper.setting import add_models, ours, paper_parser, train_images
from benchmarks.paper.study import add_study, open_study, settings_of, transform_of
from benchmarks.report import print_table, write_report
from ruas_jax.config import Config
from ruas_jax.evaluation.evaluate import evaluate_images
from ruas_jax.evaluation.metrics import PROTOCOL
from ruas_jax.experiments.train import train
from ruas_jax.lowlight.cell import Cell
from ruas_jax.lowlight.genotype import EDGES, Genotype
from ruas_jax.lowlight.operations import CANDIDATES, SKIP, Operation
from ruas_jax.photos.model import FoldedModel, Model, fold
from ruas_jax.plots import make_figure, tidy

WHOLE = "whole model"

NOTHING = Operation("nothing", None, lambda _, channels: jnp.zeros((1, 1, channels, channels)))
"""A candidate that is zero. In a cell of only this candidate, the result is the constant of the fusion's bias."""


class Variant(NamedTuple):
  """A change of a trained model, in words and as a function."""

  words: str
  change: Callable[[Model], FoldedModel]


@dataclasses.dataclass(frozen=True)
class Retrained:
  """A change of a training, in words. The change is one operation on all edges of a cell instead of the searched ones,
  or options of the configuration, by path."""

  words: str
  operations: Mapping[str, str] = dataclasses.field(default_factory=dict)
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class PassingCell(Cell):
  """A cell that returns its input."""

  def apply(self, folded, x, activation, valid=None):
    return x


def _without(*cells: str, variant: str | None = None) -> Callable[[Model], FoldedModel]:
  """Makes the cells of these modules return zero at every stage, by a zero kernel and bias of their fusion."""

  def change(model):
    weights = dict(model.weights)
    if "illumination" in cells:
      weights["illumination"] = _silenced(weights["illumination"])
    if "denoising" in cells:
      weights["denoising"] = weights["denoising"] | {"cells": _silenced(weights["denoising"]["cells"])}
    return fold(dataclasses.replace(model, weights=weights).with_variant(variant))

  return change


def _silenced(cell):
  return cell | {"fusion": jax.tree.map(jnp.zeros_like, cell["fusion"])}


def _passing(model: Model) -> FoldedModel:
  folded = fold(model)
  cell = folded.network.denoising.cell
  cell = PassingCell(cell.channels, cell.operations, cell.genotype)
  denoising = dataclasses.replace(folded.network.denoising, cell=cell)
  return dataclasses.replace(folded, network=folded.network._replace(denoising=denoising))


def _updated(model: Model) -> FoldedModel:
  illumination = dataclasses.replace(model.options.illumination, warm_start="updated")
  return fold(dataclasses.replace(model, options=dataclasses.replace(model.options, illumination=illumination)))


SWITCHED = {
  WHOLE: Variant("as it was trained", fold),
  "illumination cells off": Variant("t is the warm start; noise removal follows", _without("illumination")),
  "noise removal off": Variant("the illumination module's result, RUAS_i", _without(variant="i")),
  "noise removal cells off": Variant("they give zero; stem and head are left", _without("denoising")),
  "noise removal cells passed by": Variant("they give what the stem gives to the head", _passing),
  "illumination cells and noise removal off": Variant(
    "u = y / t with t the warm start", _without("illumination", variant="i")
  ),
  "all cells off": Variant("both modules' cells give zero", _without("illumination", "denoising")),
  "warm start updated": Variant("by eq. 1 at every stage, with weights trained otherwise", _updated),
}

RETRAINED = {
  WHOLE: Retrained("the same genotype, trained again by the configuration"),
  "illumination cells off": Retrained("they give a constant for each colour", {"illumination": NOTHING.name}),
  "noise removal cells off": Retrained("all of noise removal is a constant", {"denoising": NOTHING.name}),
  "noise removal cells of skips": Retrained("stem, leaky ReLU, fusion and head are left", {"denoising": SKIP.name}),
  "all cells off": Retrained("a constant in both modules", {"illumination": NOTHING.name, "denoising": NOTHING.name}),
  "warm start updated": Retrained("by eq. 1 at every stage", options={"network.illumination.warm_start": "updated"}),
}

_QUICK_RETRAINED = (WHOLE, "all cells off")


def main(arguments: list[str] | None = None) -> None:
  parser = paper_parser(__doc__.split("\n")[0])
  add_models(parser, pretrained="lol")
  add_study(parser)
  parser.add_argument("--retrain", action="store_true", help="also train without each part; needs train/low")
  options = parser.parse_args(arguments)
  study, model = open_study(options), ours(options)
  groups = {
    "changed in the trained model": {
      name: _row(variant.words, evaluate_images(transform_of(variant.change(model)), study.pairs))
      for name, variant in SWITCHED.items()
    }
  }
  if options.retrain:
    images = train_images(options.data)
    rows = groups["trained so from the start"] = {}
    for name, retrained in RETRAINED.items():
      if options.quick and name not in _QUICK_RETRAINED:
        continue
      again = _retrain(study.config, model.genotype, retrained, images)
      rows[name] = _row(retrained.words, evaluate_images(transform_of(fold(again)), study.pairs))
  for title, rows in groups.items():
    for row in rows.values():
      row["gain"] = {key: rows[WHOLE][key] - row[key] for key in ("psnr", "ssim")}
    shown = [
      {"variant": name, "psnr": row["psnr"], "ssim": row["ssim"]}
      | {f"{key} gained": value for key, value in row["gain"].items()}
      for name, row in rows.items()
    ]
    print_table(shown, f"{title}: {len(study.pairs)} pairs of LOL, dev")
  write_report(
    options.json,
    settings=settings_of(options, study) | {"weights": options.checkpoint or options.pretrained, "protocol": PROTOCOL},
    results={"groups": groups, "genotype": str(model.genotype), "weights_sha256": model.weights_sha256()},
    bars={},
  )
  if options.picture:
    _draw(options.picture, groups, len(study.pairs))


def _row(words: str, report: dict[str, Any]) -> dict[str, Any]:
  return {"definition": words, **report["mean"], "images": report["images"]}


def _retrain(config: Config, genotype: Genotype, change: Retrained, images) -> Model:
  config = config.with_overrides(change.options)
  genotype = dataclasses.replace(genotype, **{cell: (name,) * len(EDGES) for cell, name in change.operations.items()})
  return train(config, genotype, images=images, operations=(*CANDIDATES, NOTHING)).model


def _draw(path, groups: dict[str, dict[str, dict]], pairs: int) -> None:
  """Draws a row of bars for each variant, in groups: PSNR on the left, SSIM on the right."""
  counts = [len(rows) for rows in groups.values()]
  figure = make_figure(10.5, 0.9 + sum(0.32 * count + 0.55 for count in counts), layout="constrained")
  axes = figure.subplots(len(groups), 2, squeeze=False, sharex="col", height_ratios=counts)
  for (title, rows), line in zip(groups.items(), axes, strict=True):
    for axis, key, digits in zip(line, ("psnr", "ssim"), (2, 3), strict=True):
      values = [row[key] for row in rows.values()]
      colors = ["#1f77b4", *["#b9c4cf"] * (len(rows) - 1)]
      axis.barh(range(len(rows)), values, color=colors, height=0.7)
      for position, row in enumerate(rows.values()):
        gain = f"  ({-row['gain'][key]:+.{digits}f})" if position else ""
        axis.text(row[key], position, f" {row[key]:.{digits}f}{gain}", va="center", fontsize=9)
      axis.set_ylim(len(rows) - 0.4, -0.6)
      axis.set_yticks(range(len(rows)), list(rows) if axis is line[0] else [""] * len(rows))
      axis.tick_params(axis="y", length=0)
      tidy(axis)
      axis.grid(visible=False)  # the grid would cross the numbers
    line[0].set_title(title, loc="left", fontsize=11, fontweight="bold")
  for axis, name, key in zip(axes[-1], ("PSNR, dB", "SSIM"), ("psnr", "ssim"), strict=True):
    axis.set_xlabel(f"{name}, mean over {pairs} pairs of LOL (dev)")
    axis.set_xlim(0, 1.45 * max(row[key] for rows in groups.values() for row in rows.values()))
  save_figure(figure, path)


if __name__ == "__main__":
  main()
