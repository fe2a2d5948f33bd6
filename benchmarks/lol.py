"""The main job on LOL: search, train, evaluate, with simple baselines beside the result.

    python -m benchmarks.lol --data LOL --json benchmarks/results/lol.json [--released checkpoint_lol.npz]

LOL is a folder with `train/low` (search and training) and the pairs `dev/{low,high}` and `val/{low,high}`; none of
LOL's test images may be among them. Every figure follows the strict protocol of `ruas_jax.evaluation.metrics`.
"""

import dataclasses
import pathlib
import tempfile
import time

import jax
import numpy as np

from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax.config import load_config
from ruas_jax.data.sources import ImageArrays, ImageFolder, PairFolders
from ruas_jax.evaluation.baselines import BASELINES
from ruas_jax.evaluation.evaluate import evaluate, evaluate_images
from ruas_jax.inference.model import Model
from ruas_jax.inference.released import convert_released
from ruas_jax.inference.state_dict import read_state_dict
from ruas_jax.retinex.network import RELEASED
from ruas_jax.runner.search import search
from ruas_jax.runner.train import train
from ruas_jax.search_space.genotype import Genotype

_QUICK_PAIRS = 8
_SHOWN_BASELINES = ("input", "gain_to_mean", "gamma", "curve", "curve_tv")


def main() -> None:
  parser = argument_parser(__doc__.split("\n")[0])
  parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with train/low, dev and val")
  parser.add_argument("--released", help="your copy of the authors' released lol weights, as .npz or .pt")
  parser.add_argument("--config", default="lol", help="configuration of the search and the training")
  parser.add_argument("--workdir", help="keep the runs here")
  parser.add_argument("--seed", type=int, default=0)
  arguments = parser.parse_args()

  config = load_config(arguments.config)
  changes = {"seed": arguments.seed}
  if arguments.quick:
    changes["search"] = dataclasses.replace(config.search, steps=20)
    changes["training"] = dataclasses.replace(config.training, steps=60)
  config = dataclasses.replace(config, **changes)
  folder = ImageFolder(arguments.data / "train" / "low")
  images = ImageArrays(folder.names, [folder[index] for index in range(len(folder))])
  sets = {}
  for name in ("dev", "val"):
    pairs = PairFolders(arguments.data / name / "low", arguments.data / name / "high")
    sets[name] = pairs.subset(range(0, len(pairs), len(pairs) // _QUICK_PAIRS)) if arguments.quick else pairs

  with tempfile.TemporaryDirectory() as temporary:
    workdir = pathlib.Path(arguments.workdir or temporary)
    start = time.perf_counter()
    found = search(config, workdir=workdir / "search", train_images=images, overwrite=True)
    middle = time.perf_counter()
    trained = train(config, found.genotype, workdir=workdir / "model", images=images, overwrite=True)
    end = time.perf_counter()

  models = {"ours": trained.model, "ours, before noise removal": trained.model.with_variant("i")}
  if arguments.released:
    genotype = Genotype.named("published")
    released = Model(convert_released(read_state_dict(arguments.released), genotype), genotype, RELEASED)
    models["released weights"] = released
  figures = {
    name: {part: evaluate(model, pairs)["mean"] for part, pairs in sets.items()} for name, model in models.items()
  }
  for name in _SHOWN_BASELINES:
    figures[name] = {part: evaluate_images(BASELINES[name], pairs)["mean"] for part, pairs in sets.items()}
  print_table(
    [
      {"method": name} | {f"{part} {metric}": value for part, mean in parts.items() for metric, value in mean.items()}
      for name, parts in figures.items()
    ],
    "LOL, reference-free",
  )
  write_report(
    arguments.json,
    settings={
      "config": arguments.config,
      "seed": arguments.seed,
      "quick": arguments.quick,
      "search_steps": config.search.steps,
      "training_steps": config.training.steps,
      "pairs": {name: len(pairs) for name, pairs in sets.items()},
    },
    results={
      "figures": figures,
      "genotype": str(found.genotype),
      "parameters": trained.model.parameters(),
      "macs": trained.model.macs(400, 600),
      "weights_sha256": trained.model.weights_sha256(),
      "largest_alpha_share": {name: float(jax.nn.softmax(value).max()) for name, value in found.state.alpha.items()},
      "search_losses": _first_and_last(found.metrics),
      "training_losses": _first_and_last(trained.metrics),
      "search_seconds": middle - start,
      "training_seconds": end - middle,
    },
    bars={
      "lol_dev_psnr_above_input": figures["ours"]["dev"]["psnr"],
      "lol_dev_ssim_above_input": figures["ours"]["dev"]["ssim"],
    },
  )


def _first_and_last(metrics: list[dict]) -> dict[str, dict[str, float]]:
  """Median of every loss over the first and the last tenth of a run: crops differ too much for single steps."""
  part = max(1, len(metrics) // 10)
  names = [name for name in metrics[-1] if name.endswith("_loss")]
  return {
    name: {
      "first_tenth": float(np.median([record[name] for record in metrics[:part]])),
      "last_tenth": float(np.median([record[name] for record in metrics[-part:]])),
    }
    for name in names
  }


if __name__ == "__main__":
  main()
