"""Figure 8: the searched architecture compared with single operations, random ones and the supernet: quality and time.

    python -m benchmarks.paper.fig8_architectures --data LOL --picture fig8.png \\
      --json benchmarks/results/fig8_architectures.json

LOL is a folder with `train/low` and the pairs `dev/{low,high}`. All networks are trained with the same configuration,
number of steps and seeds. The searched architecture is that of the bundled weights, or `--genotype`. The supernet's
weights come from a search whose alpha stays uniform, on the same images, with the optimiser of the illumination's
training. It is timed in two forms: by its definition, with seven operations on every edge, and folded into one
convolution per edge, as this package runs it. Derived networks are folded. Seconds are medians of the forward pass
only, and all networks take turns. Parameters and operations are counted before folding. The JSON also has the rank
correlation between the score that selects seeds and the quality of these networks.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from matplotlib.ticker import FixedLocator, NullLocator
from scipy.stats import spearmanr

from benchmarks.paper.pictures import save_figure
from benchmarks.paper.setting import paper_parser, train_images
from benchmarks.paper.study import add_study, at_least, enhance_program, open_study, settings_of, transform_of
from benchmarks.report import print_table, write_report
from benchmarks.speed.inference import median_seconds
from ruas_jax.config import Config
from ruas_jax.data.sources import ImageSource, Pairs
from ruas_jax.evaluation.evaluate import MACS_SIZE, evaluate_images
from ruas_jax.evaluation.metrics import PROTOCOL
from ruas_jax.experiments.score import score
from ruas_jax.experiments.search import search
from ruas_jax.experiments.train import train
from ruas_jax.lowlight.cell import Cell
from ruas_jax.lowlight.genotype import CELLS, EDGES, SHORT_NAMES, Genotype
from ruas_jax.lowlight.network import build_network, count_macs, count_parameters
from ruas_jax.lowlight.operations import CANDIDATES, operation_names
from ruas_jax.nas.relaxation import softmax
from ruas_jax.optimizers import make_optimizer
from ruas_jax.photos.model import FoldedModel, fold
from ruas_jax.photos.pretrained import load_pretrained
from ruas_jax.plots import make_figure, tidy

COLORS = {"searched": "#d62728", "single operation": "#2a8a4a", "random": "#8b96a1", "supernet": "#1f77b4"}
_FOLDED, _PLAIN = "supernet, folded", "supernet, seven operations per edge"
_VARIANT = "i+n"
_REPEATS, _QUICK_REPEATS = 20, 2


class PlainCell(Cell):
  """The supernet's cell by its definition: every candidate is computed separately."""

  def fold(self, weights, shares, channels=None):
    return weights, shares

  def apply(self, folded, x, activation, valid=None):
    return self.apply_unfolded(*folded, x, activation)


class Trained(NamedTuple):
  """A trained network, its cost, and its `experiments.score` without references (the supernet has none)."""

  folded: FoldedModel
  parameters: int
  macs: int
  score: float | None


def main(arguments: list[str] | None = None) -> None:
  parser = paper_parser(__doc__.split("\n")[0])
  add_study(parser)
  parser.add_argument("--genotype", help="file of the searched architecture (default: that of the bundled lol weights)")
  parser.add_argument("--random", type=at_least(1), default=6, help="number of random architectures")
  parser.add_argument("--seeds", type=at_least(1), default=1, help="number of trainings of every architecture")
  options = parser.parse_args(arguments)
  if options.quick:
    options.random = 1
  study, images = open_study(options), train_images(options.data)
  searched = Genotype.load(options.genotype) if options.genotype else load_pretrained("lol").genotype
  genotypes = _genotypes(searched, options.random, quick=options.quick)
  configs = [study.config.with_overrides({"seed": options.seed + index}) for index in range(options.seeds)]

  rows, timed = [], {}
  for name, (kind, genotype) in genotypes.items():
    trained = [_derived(config, genotype, images) for config in configs]
    rows.append({"name": name, "kind": kind, "genotype": str(genotype)} | _measure(trained, study.pairs))
    timed[name] = trained[0].folded
  trained, plain = zip(*(_supernet(config, images) for config in configs), strict=True)
  measured = _measure(trained, study.pairs)
  for name, folded in ((_FOLDED, trained[0].folded), (_PLAIN, plain[0])):
    rows.append({"name": name, "kind": "supernet", "genotype": None} | measured)
    timed[name] = folded
  image = jax.numpy.asarray(study.pairs.low[0], np.float32) / 255  # in device memory
  calls = {
    name: lambda model=model: enhance_program()(model, image).block_until_ready() for name, model in timed.items()
  }
  median_seconds(calls, 1)  # compiles
  seconds = median_seconds(calls, _QUICK_REPEATS if options.quick else _REPEATS)
  for row in rows:
    row["seconds"] = seconds[row["name"]]

  shown = ("name", "psnr", "ssim", "parameters", "macs", "seconds")
  print_table(
    [{key: row[key] for key in shown} for row in sorted(rows, key=lambda row: -row["psnr"])],
    f"{len(study.pairs)} pairs of LOL, dev; seconds at {image.shape[1]}x{image.shape[0]}",
  )
  write_report(
    options.json,
    settings=settings_of(options, study)
    | {"seeds": options.seeds, "variant": _VARIANT, "protocol": PROTOCOL}
    | {"timed_size": image.shape[:2], "macs_size": MACS_SIZE},
    results={"architectures": rows, "rank_correlation": _rank_correlation(rows)},
    bars={},
  )
  if options.picture:
    _draw(options.picture, rows, f"{image.shape[1]}x{image.shape[0]}", len(study.pairs))


def _genotypes(searched: Genotype, count: int, *, quick: bool) -> dict[str, tuple[str, Genotype]]:
  """Name -> kind and genotype."""
  names = operation_names(CANDIDATES)
  found = {"searched": ("searched", searched)}
  for name in names[:1] if quick else names:
    found[f"all {SHORT_NAMES[name]}"] = ("single operation", Genotype(*[(name,) * len(EDGES)] * len(CELLS)))
  draws = np.random.default_rng(0).choice(names, size=(count, len(CELLS), len(EDGES))).tolist()
  return found | {
    f"random {index}": ("random", Genotype(*map(tuple, cells))) for index, cells in enumerate(draws, start=1)
  }


def _derived(config: Config, genotype: Genotype, images: ImageSource) -> Trained:
  model = train(config, genotype, images=images).model.with_variant(_VARIANT)
  return Trained(fold(model), model.parameters(), model.macs(*MACS_SIZE), score(model, config, images)["total"])


def _supernet(config: Config, images: ImageSource) -> tuple[Trained, FoldedModel]:
  """The supernet, trained by a search whose alpha does not move, with one update of each module's weights in a round;
  and the same network by its definition."""
  training = config.training
  options = {"strategy": "cooperative", "steps": training.steps, "hypergradient": "first_order", "unroll_steps": 1}
  found = search(
    config.with_overrides({f"search.{name}": value for name, value in options.items()}),
    train_images=images,
    val_images=images,
    weight_optimizer=make_optimizer(
      training.illumination_optimizer, decay_steps=training.steps if training.decay else None
    ),
    alpha_optimizer=optax.set_to_zero(),
  )
  weights, shares = found.state.weights, softmax(found.state.alpha)
  network = build_network(config.network)
  plain = network._replace(**{name: _with_plain_cell(getattr(network, name)) for name in network._fields})
  folded, unfolded = (
    FoldedModel(jax.jit(form.fold, static_argnums=0)(_VARIANT, weights, shares), form) for form in (network, plain)
  )
  return Trained(folded, count_parameters(weights), count_macs(network, _VARIANT, *MACS_SIZE), None), unfolded


def _with_plain_cell(module):
  return dataclasses.replace(module, cell=PlainCell(module.cell.channels, module.cell.operations))


def _measure(trained: Sequence[Trained], pairs: Pairs) -> dict[str, Any]:
  """Means over the seeds, and the numbers of each seed."""
  seeds = [evaluate_images(transform_of(run.folded), pairs)["mean"] | {"score": run.score} for run in trained]
  return {
    **{key: float(np.mean([run[key] for run in seeds])) for key in ("psnr", "ssim")},
    "by_seed": seeds,
    "parameters": trained[0].parameters,
    "macs": trained[0].macs,
  }


def _rank_correlation(rows: list[dict[str, Any]]) -> dict[str, float | None]:
  """Spearman's rank correlation over all trainings between the score without references (negated: lower is better) and
  each metric, with its p-value."""
  seeds = [run for row in rows for run in row["by_seed"] if run["score"] is not None]
  if len(seeds) < 3:
    return {}
  scores = [-run["score"] for run in seeds]
  found = {key: spearmanr(scores, [run[key] for run in seeds]) for key in ("psnr", "ssim")}
  return {
    name: float(value)
    for key, correlation in found.items()
    for name, value in ((key, correlation[0]), (f"{key}_p", correlation[1]))
  }


def _draw(path, rows: list[dict[str, Any]], size: str, pairs: int) -> None:
  """Draws quality over time on the left, and all networks sorted by quality on the right."""
  figure = make_figure(12.5, 1.2 + 0.27 * len(rows), layout="constrained")
  scatter, order = figure.subplots(1, 2, width_ratios=(1.15, 1))
  for kind, color in COLORS.items():
    selected = [row for row in rows if row["kind"] == kind]
    points = [[1e3 * row["seconds"] for row in selected], [row["psnr"] for row in selected]]
    scatter.scatter(*points, s=90 if kind == "searched" else 45, marker="*" if kind == "searched" else "o", color=color,
                    label=kind, zorder=3 if kind == "searched" else 2)  # fmt: skip
    if kind == "supernet":
      scatter.plot(*points, color=color, linewidth=1, linestyle=":")
      for row, x, y in zip(selected, *points, strict=True):
        text = row["name"].removeprefix("supernet, ").replace(" per edge", "\nper edge")
        scatter.annotate(text, (x, y), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=9, color=color)
  scatter.set_xscale("log")
  scatter.margins(x=0.12, y=0.15)
  ticks = FixedLocator([a * 10**b for b in range(-1, 5) for a in (1, 2, 5)])
  scatter.xaxis.set(major_locator=ticks, major_formatter="{x:g}", minor_locator=NullLocator())
  scatter.set(xlabel=f"milliseconds for {size} pixels", ylabel=f"PSNR, dB: mean over {pairs} pairs of LOL (dev)")
  scatter.legend(loc="best", fontsize=9)
  ranked = sorted((row for row in rows if row["name"] != _PLAIN), key=lambda row: row["psnr"])
  for position, row in enumerate(ranked):
    color = COLORS[row["kind"]]
    values = [run["psnr"] for run in row["by_seed"]]
    order.plot([min(values), max(values)], [position] * 2, color=color, linewidth=1.5)
    order.scatter(row["psnr"], position, color=color, s=45)
    order.annotate(f"{row['psnr']:.2f} / {row['ssim']:.3f}", (max(values), position), xytext=(8, 0), va="center",
                   textcoords="offset points", fontsize=8.5)  # fmt: skip
  names = [row["name"].removesuffix(", folded") for row in ranked]
  order.set_yticks(range(len(ranked)), names)
  order.tick_params(axis="y", length=0)
  for label, row in zip(order.get_yticklabels(), ranked, strict=True):
    label.set_color(COLORS[row["kind"]])
  order.margins(x=0.1)
  low, high = order.get_xlim()
  order.set_xlim(low, high + 0.25 * (high - low))  # leaves space for the numbers
  order.set_xlabel("PSNR, dB / SSIM")
  for axis in (scatter, order):
    tidy(axis)
  order.grid(visible=False, axis="y")
  save_figure(figure, path)


if __name__ == "__main__":
  main()
