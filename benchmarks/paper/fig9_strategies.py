"""Figure 9: separate, naive joint and cooperative search: the resulting alpha, and the quality of the architectures.

    python -m benchmarks.paper.fig9_strategies --data LOL --picture fig9.png \\
      --json benchmarks/results/fig9_strategies.json

LOL is a folder with `train/low` and the pairs `dev/{low,high}`. Every strategy searches with every seed, with the same
configuration and number of rounds. The resulting architecture is trained with the same seed for the same number of
steps. In a round, the cooperative search updates alpha of both modules one after the other, and the joint search
updates all of alpha at once. The separate search updates one module: the illumination in the first half of the rounds,
then noise removal.
"""

from collections import Counter
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle
from scipy.special import softmax

from benchmarks.paper.pictures import save_figure
from benchmarks.paper.setting import paper_parser, train_images
from benchmarks.paper.study import add_study, at_least, open_study, settings_of, transform_of
from benchmarks.report import print_table, write_report
from ruas_jax.config import Config
from ruas_jax.data.sources import ImageSource
from ruas_jax.evaluation.evaluate import evaluate_images
from ruas_jax.evaluation.metrics import PROTOCOL
from ruas_jax.experiments.search import search
from ruas_jax.experiments.train import train
from ruas_jax.lowlight.genotype import CELLS, EDGES, SHORT_NAMES
from ruas_jax.lowlight.operations import CANDIDATES, operation_names
from ruas_jax.photos.model import fold
from ruas_jax.plots import make_figure

STRATEGIES = ("separate", "joint", "cooperative")
_TITLES = {"separate": "separate", "joint": "naive joint", "cooperative": "cooperative"}


def main(arguments: list[str] | None = None) -> None:
  parser = paper_parser(__doc__.split("\n")[0])
  add_study(parser)
  parser.add_argument("--seeds", type=at_least(1), default=3, help="searches and trainings for every strategy")
  parser.add_argument(
    "--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES, help="which ones (default: all)"
  )
  parser.add_argument("--search-steps", type=at_least(1), help="rounds of every search (default: the configuration's)")
  options = parser.parse_args(arguments)
  study, images = open_study(options), train_images(options.data)
  config = study.config
  if options.search_steps:
    config = config.with_overrides({"search.steps": options.search_steps})
  if options.quick:
    options.seeds = 1
    config = config.with_overrides({"search.hypergradient": "first_order"})  # compiles three times as fast
  study = study._replace(config=config)

  runs: dict[str, list[dict[str, Any]]] = {strategy: [] for strategy in options.strategies}
  for seed in range(options.seed, options.seed + options.seeds):
    for strategy, results in runs.items():
      found, mean = _run(config.with_overrides({"seed": seed}), strategy, images, study.pairs)
      results.append({"seed": seed, **found, **mean})
  strategies = {strategy: _summary(results) | {"runs": results} for strategy, results in runs.items()}
  rows = [
    {"strategy": _TITLES[strategy]} | {key: "{mean:.4g} ± {std:.2g}".format(**summary[key]) for key in ("psnr", "ssim")}
    for strategy, summary in strategies.items()
  ]
  print_table(rows, f"{options.seeds} seeds, {len(study.pairs)} pairs of LOL, dev")
  budget = {"search_steps": config.search.steps, "training_steps": config.training.steps, "seeds": options.seeds}
  write_report(
    options.json,
    settings=settings_of(options, study) | {"budget": budget, "protocol": PROTOCOL},
    results={"strategies": strategies, "operations": operation_names(CANDIDATES), "edges": EDGES},
    bars={},
  )
  if options.picture:
    _draw(options.picture, strategies, options.seeds)


def _run(config: Config, strategy: str, images: ImageSource, pairs) -> tuple[dict[str, Any], dict[str, float]]:
  """The result of a search, and the metrics of the resulting architecture after training."""
  config = config.with_overrides({"search.strategy": strategy})
  found = search(config, train_images=images)
  model = train(config, found.genotype, images=images).model
  shares = {cell: softmax(np.asarray(alpha, np.float64), axis=-1) for cell, alpha in found.state.alpha.items()}
  mean = evaluate_images(transform_of(fold(model)), pairs)["mean"]
  return {"genotype": str(found.genotype), "shares": shares, "parameters": model.parameters()}, mean


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
  """Mean and standard deviation (0 for a single seed) over the seeds, the mean heat maps, and the frequency of each
  edge's most frequent operation."""
  summary: dict[str, Any] = {}
  for key in ("psnr", "ssim"):
    values = [run[key] for run in runs]
    summary[key] = {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}
  summary["shares"] = {cell: np.mean([run["shares"][cell] for run in runs], axis=0) for cell in CELLS}
  chosen = {cell: np.stack([run["shares"][cell].argmax(axis=1) for run in runs], axis=1) for cell in CELLS}
  summary["agreement"] = {
    cell: [Counter(edge.tolist()).most_common(1)[0][1] / len(runs) for edge in edges] for cell, edges in chosen.items()
  }
  return summary


def _draw(path, strategies: dict[str, dict[str, Any]], seeds: int) -> None:
  """Draws a column of two heat maps for each strategy, below its metrics. A box marks each edge's largest value."""
  names = [SHORT_NAMES.get(name, name) for name in operation_names(CANDIDATES)]
  every = np.array([summary["shares"][cell] for summary in strategies.values() for cell in CELLS])
  digits = 2 if np.ptp(every) > 0.05 else 3  # after a short search the values are close
  scale = {"vmin": every.min(), "vmax": every.max()}
  figure = make_figure(4.6 * len(strategies) + 1.2, 6.6, layout="constrained")
  axes = figure.subplots(len(CELLS), len(strategies), squeeze=False, sharex=True, sharey=True)
  for column, (strategy, summary) in zip(axes.T, strategies.items(), strict=True):
    psnr, ssim = summary["psnr"], summary["ssim"]
    spread = (f" ± {psnr['std']:.2f}", f" ± {ssim['std']:.3f}") if seeds > 1 else ("", "")
    title = f"{psnr['mean']:.2f}{spread[0]} dB, SSIM {ssim['mean']:.3f}{spread[1]}"
    column[0].set_title(f"{_TITLES[strategy]} search\n{title}", fontsize=11.5)
    for axis, cell in zip(column, CELLS, strict=True):
      shares = summary["shares"][cell]
      image = axis.imshow(shares, cmap="Blues", aspect="auto", **scale)
      for (row, position), value in np.ndenumerate(shares):
        dark = value > 0.4 * scale["vmin"] + 0.6 * scale["vmax"]
        axis.text(position, row, f"{value:.{digits}f}", ha="center", va="center", fontsize=7.5,
                  color="white" if dark else "black")  # fmt: skip
      for row, position in enumerate(shares.argmax(axis=1)):
        axis.add_patch(Rectangle((position - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="#d62728", linewidth=1.8,
                                 zorder=3))  # fmt: skip
      axis.set_xticks(range(len(names)), names, fontsize=9)
      axis.set_yticks(range(len(EDGES)), [edge.replace("_", " ") for edge in EDGES], fontsize=9)
      axis.tick_params(length=0)
  for axis, label in zip(axes[:, 0], CELLS.values(), strict=True):
    axis.set_ylabel(label, fontsize=12)
  over = f"mean over {seeds} seeds" if seeds > 1 else "one seed"
  figure.colorbar(image, ax=list(axes.ravel()), label=f"softmax(alpha), {over}", pad=0.015, fraction=0.025)
  save_figure(figure, path)


if __name__ == "__main__":
  main()
