"""A search that takes the operations into account, on LOL: its front, and its architectures against the bundled one.

    python -m benchmarks.paper.cost_aware --data LOL --workdir runs/cost_aware --picture cost_aware.png \\
      --json benchmarks/results/cost_aware.json [--space wide]

LOL is a folder with `train/low` and the pairs `dev/{low,high}`. First a population sweeps `search.cost_weight`, on
smaller crops and fewer steps than the configuration. Of the genotypes with at most 60 % of the bundled one's
operations, those whose supernets have the lowest loss are trained, and the bundled one too: by the configuration's
training, with the same seeds. The one with the lowest score without references is compared. Operations are
multiply-accumulates of the folded network (`count_folded_macs`).
"""

import json
import pathlib
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.paper.architectures import means, operations_of, train_and_measure
from benchmarks.paper.pictures import save_figure
from benchmarks.paper.setting import paper_parser, train_images
from benchmarks.paper.study import add_study, at_least, open_study, settings_of
from benchmarks.report import print_table, write_report
from ruas_jax.config import Config
from ruas_jax.data.sources import ImageSource
from ruas_jax.engine.mesh import one_cpu_device_per_core
from ruas_jax.experiments.population import search_population
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.photos.pretrained import load_pretrained
from ruas_jax.plots import make_figure, tidy
from ruas_jax.sweep import PopulationOptions

WEIGHTS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SHARE = 0.6
_BUNDLED = "bundled"
_QUICK_WEIGHTS = (0.0, 1.0)


def main(arguments: list[str] | None = None) -> None:
  parser = paper_parser(__doc__.split("\n")[0])
  add_study(parser)
  parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder of all runs; finished ones are kept")
  parser.add_argument("--front", type=pathlib.Path, help="front.json of an earlier search, instead of a search")
  parser.add_argument("--weights", type=float, nargs="+", help="weights of the cost, one search each")
  parser.add_argument("--seeds", type=at_least(1), default=3, help="number of trainings of every architecture")
  parser.add_argument("--candidates", type=at_least(1), default=2, help="number of found architectures to train")
  parser.add_argument("--search-steps", type=at_least(1), default=200)
  parser.add_argument("--search-crop", type=at_least(1), default=64)
  parser.add_argument("--space", choices=("ruas", "wide"), default="ruas", help="what is searched (network.space)")
  options = parser.parse_args(arguments)
  one_cpu_device_per_core()
  study, images = open_study(options), train_images(options.data)
  study = study._replace(config=study.config.with_overrides({"network.space": options.space}))
  bundled = load_pretrained("lol").genotype
  limit = SHARE * operations_of(study.config, bundled)["operations"]

  front = json.loads(options.front.read_text()) if options.front else _search(options, study.config, images)
  affordable = sorted((point for point in front["points"] if point["cost"] <= limit), key=lambda point: point["loss"])
  chosen = list(dict.fromkeys(point["genotype"] for point in affordable))[: options.candidates]
  found = {f"found {index}": text for index, text in enumerate(chosen, 1)}
  rows = [{"name": name, "genotype": text, "by_seed": []} for name, text in ({_BUNDLED: str(bundled)} | found).items()]
  for seed in range(options.seeds):  # all architectures with one seed, so that what was stopped can be compared too
    for row in rows:
      folder = options.workdir / row["name"].replace(" ", "_") / str(seed)
      config = study.config.with_overrides({"seed": study.config.seed + seed})
      genotype = Genotype.from_text(row["genotype"])
      row["by_seed"].append(train_and_measure(folder, config, genotype, images, study.pairs))
  for row in rows:
    row |= operations_of(study.config, Genotype.from_text(row["genotype"])) | means(row["by_seed"])
  for row in rows:
    row["share"] = row["operations"] / rows[0]["operations"]
  shown = ("name", "operations", "share", "psnr", "ssim", "score")
  print_table([{key: row[key] for key in shown} for row in rows], f"{len(study.pairs)} pairs of LOL, dev")
  best = min(rows[1:], key=lambda row: row["score"], default=None)
  expected, counted = ([point[name] for point in front["points"]] for name in ("expected_cost", "cost"))
  bars = {"expected_cost_rank_correlation": float(spearmanr(expected, counted)[0])}
  if best:
    bars |= {
      "cost_aware_operations_share": best["share"],
      "cost_aware_psnr_below_bundled": rows[0]["psnr"] - best["psnr"],
      "cost_aware_ssim_below_bundled": rows[0]["ssim"] - best["ssim"],
    }
  write_report(
    options.json,
    settings=settings_of(options, study)
    | {"seeds": options.seeds, "weights": _weights(options), "search_steps": options.search_steps}
    | {"search_crop": options.search_crop, "limit": limit},
    results={"front": front, "architectures": rows},
    bars=bars,
  )
  if options.picture:
    _draw(options.picture, front, rows, limit)


def _weights(options) -> tuple[float, ...]:
  return tuple(options.weights or (_QUICK_WEIGHTS if options.quick else WEIGHTS))


def _search(options, config: Config, images: ImageSource) -> dict[str, Any]:
  """The front of a population that sweeps the weight of the operations."""
  config = config.with_overrides(
    {"search.cost": "macs", "search.parameters": 0}
    | ({} if options.quick else {"search.steps": options.search_steps, "data.crop": options.search_crop})
  )
  sweep = f"search.cost_weight={','.join(map(str, _weights(options)))}"
  found = search_population(
    config, PopulationOptions(sweep=(sweep,)), workdir=options.workdir / "search", train_images=images
  )
  assert found.front is not None
  return found.front


def _draw(path, front: dict[str, Any], rows: list[dict[str, Any]], limit: float) -> None:
  """The front of the search on the left, SSIM of the trained architectures on the right."""
  figure = make_figure(11, 4.2, layout="constrained")
  left, right = figure.subplots(1, 2)
  for on_front, color in ((False, "#8b96a1"), (True, "#d62728")):
    points = [point for point in front["points"] if point["on_front"] == on_front]
    left.scatter([point["cost"] for point in points], [point["loss"] for point in points], color=color, s=40)
  by_genotype: dict[str, list[dict[str, Any]]] = {}
  for point in sorted(front["points"], key=lambda point: point["cost"]):
    by_genotype.setdefault(point["genotype"], []).append(point)
  for index, points in enumerate(by_genotype.values()):
    label = ", ".join(f"{point['values']['search.cost_weight']:g}" for point in reversed(points))
    _label(left, label, points[0]["cost"], points[0]["loss"], right=bool(index % 2), rise=7)
  left.margins(x=0.2, y=0.12)
  left.set(ylabel=front["loss"], title="searches, by the weight of the cost")
  by_seed = {row["name"]: [run["ssim"] for run in row["by_seed"]] for row in rows}
  lowest, median = min(map(min, by_seed.values())), min(float(np.median(values)) for values in by_seed.values())
  low, below = median - 0.01, 0
  for index, row in enumerate(sorted(rows, key=lambda row: row["operations"])):
    color = "#1f77b4" if row["name"] == _BUNDLED else "#d62728"
    values, at = by_seed[row["name"]], float(np.median(by_seed[row["name"]]))
    right.scatter([row["operations"]] * len(values), values, color=color, s=18, alpha=0.6)
    right.scatter(row["operations"], at, color=color, s=70, marker="_")
    _label(right, row["name"].removeprefix("found "), row["operations"], at, right=not index % 2, rise=2)
    for value in (value for value in values if value < low):  # a training that failed must not flatten the others
      offset, below = (0, 4 + 11 * below), below + 1
      text = f"↓ {value:.2f}"
      right.annotate(text, (row["operations"], low), xytext=offset, textcoords="offset points", fontsize=8.5)
  right.margins(x=0.25, y=0.12)
  if lowest < low:
    right.set_ylim(low, max(map(max, by_seed.values())) + 0.002)
  right.set(ylabel="SSIM, development pairs of LOL", title="trained architectures, the medians marked")
  for axis in (left, right):
    axis.axvline(limit, color="black", linewidth=0.8, linestyle=":")
    axis.set_xlabel("multiply-accumulates per pixel")
    tidy(axis)
  save_figure(figure, path)


def _label(axis, text: str, x: float, y: float, *, right: bool, rise: int) -> None:
  """A label to the right and `rise` points above a point, or to the left and below it."""
  side, align = (1, "left") if right else (-1, "right")
  offset = (9 * side, rise * side)
  axis.annotate(text, (x, y), xytext=offset, textcoords="offset points", ha=align, va="center", fontsize=9)


if __name__ == "__main__":
  main()
