"""The main experiment on LOL: search, training and evaluation, with simple baselines.

    python -m benchmarks.paper.lol --data LOL --json benchmarks/results/lol.json [--released checkpoint_lol.npz]
      [--seeds 0 1 2] [--weights ruas_jax/photos/weights]

With several seeds, the one with the lowest loss is selected (`benchmarks.paper.seeds`). `--weights` bundles its
weights.

LOL is a folder with `train/low` (search and training) and the pairs `dev/{low,high}` and `val/{low,high}`. It must not
contain LOL's test images. All numbers follow the strict protocol of `ruas_jax.evaluation.metrics`.
"""

import pathlib
import tempfile

import jax
import numpy as np

from benchmarks.paper.seeds import about, choose, run_seed, shorten
from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax.config import load_config
from ruas_jax.data.sources import ImageArrays, ImageFolder, PairFolders
from ruas_jax.evaluation.baselines import BASELINES
from ruas_jax.evaluation.evaluate import evaluate, evaluate_images
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.options import RELEASED
from ruas_jax.photos.model import Model
from ruas_jax.photos.pretrained import write_pretrained
from ruas_jax.photos.released import convert_released
from ruas_jax.photos.state_dict import read_state_dict

_QUICK_PAIRS = 8
_SHOWN_BASELINES = ("input", "gain_to_mean", "gamma", "curve", "curve_tv")


def main() -> None:
  parser = argument_parser(__doc__.split("\n")[0])
  parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with train/low, dev and val")
  parser.add_argument("--released", help="a copy of the authors' released lol weights, .npz or .pt")
  parser.add_argument("--config", default="lol", help="configuration of the search and the training")
  parser.add_argument("--workdir", help="keep the runs in this folder")
  parser.add_argument("--seeds", type=int, nargs="+", default=[0])
  parser.add_argument("--weights", type=pathlib.Path, help="write the selected weights into this folder")
  arguments = parser.parse_args()

  config = load_config(arguments.config)
  if arguments.quick:
    config = shorten(config, search_steps=20, training_steps=60)
  folder = ImageFolder(arguments.data / "train" / "low")
  images = ImageArrays(folder.names, [folder[index] for index in range(len(folder))])
  sets = {}
  for name in ("dev", "val"):
    pairs = PairFolders(arguments.data / name / "low", arguments.data / name / "high")
    sets[name] = pairs.subset(range(0, len(pairs), len(pairs) // _QUICK_PAIRS)) if arguments.quick else pairs

  with tempfile.TemporaryDirectory() as temporary:
    workdir = pathlib.Path(arguments.workdir or temporary)
    runs = [run_seed(config, images, seed, workdir) for seed in arguments.seeds]
  chosen = choose(runs)
  found, trained = chosen.found, chosen.trained
  if arguments.weights:
    write_pretrained(arguments.weights, "lol", trained.model, about(chosen, arguments.config, "LOL-v1 our485, low"))

  models = {"ours": trained.model, "ours, before noise removal": trained.model.with_variant("i")}
  models |= {f"ours, seed {run.seed}": run.trained.model for run in runs if run is not chosen}
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
      "seeds": arguments.seeds,
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
      "chosen_seed": chosen.seed,
      "scores": {run.seed: run.score for run in runs},
      "genotypes": {run.seed: str(run.found.genotype) for run in runs},
      "parameters_by_seed": {run.seed: run.trained.model.parameters() for run in runs},
      "search_seconds": chosen.search_seconds,
      "training_seconds": chosen.training_seconds,
    },
    bars={
      "lol_dev_psnr_above_input": figures["ours"]["dev"]["psnr"],
      "lol_dev_ssim_above_input": figures["ours"]["dev"]["ssim"],
      "lol_dev_gt_mean_psnr": figures["ours"]["dev"]["gt_mean_psnr"],
      "lol_dev_gt_mean_ssim": figures["ours"]["dev"]["gt_mean_ssim"],
      "lol_parameters": trained.model.parameters(),
    },
  )


def _first_and_last(metrics: list[dict]) -> dict[str, dict[str, float]]:
  """Median of every loss over the first and the last tenth of a run, because the losses of single crops differ much."""
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
