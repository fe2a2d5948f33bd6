"""The bundled weights `general`: search and training on darkened photographs, and the effect on other photographs.

    python -m benchmarks.paper.general --photographs PHOTOGRAPHS --normal NORMAL --json benchmarks/results/general.json
      [--seeds 0 1 2] [--weights ruas_jax/photos/weights]

PHOTOGRAPHS are well-lit photographs, which are darkened for training. NORMAL are others, which should almost not
change, together with three from scikit-image. Darkened pairs of those three are the development set.
"""

import pathlib
import tempfile

import numpy as np
import skimage.data

from benchmarks.paper.seeds import about, choose, run_seed, shorten
from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax.config import load_config
from ruas_jax.data.opening import open_source
from ruas_jax.data.sources import ImageArrays, ImageFolder, Pairs
from ruas_jax.data.synthetic import Darkened
from ruas_jax.evaluation.baselines import BASELINES
from ruas_jax.evaluation.evaluate import evaluate, evaluate_images
from ruas_jax.evaluation.metrics import finite_or_none, psnr
from ruas_jax.photos.enhancer import Enhancer
from ruas_jax.photos.pretrained import write_pretrained

_KEPT_OUT = ("astronaut", "chelsea", "coffee")
_SHOWN_BASELINES = ("input", "gain_to_mean", "gamma", "clahe", "curve_tv")


def main(arguments: list[str] | None = None) -> None:
  parser = argument_parser(__doc__.split("\n")[0])
  parser.add_argument("--photographs", required=True, help="folder of well-lit photographs for training")
  parser.add_argument("--normal", help="folder of other well-lit photographs")
  parser.add_argument("--config", default="general", help="configuration of the search and the training")
  parser.add_argument("--seeds", type=int, nargs="+", default=[0])
  parser.add_argument("--weights", type=pathlib.Path, help="write the selected weights into this folder")
  parser.add_argument("--workdir", help="keep the runs in this folder")
  options = parser.parse_args(arguments)

  config = load_config(options.config)
  if options.quick:
    config = shorten(config, search_steps=3, training_steps=6)
  source = open_source(f"darkened:{options.photographs}")
  images = ImageArrays(source.names, list(source))
  with tempfile.TemporaryDirectory() as temporary:
    runs = [run_seed(config, images, seed, pathlib.Path(options.workdir or temporary)) for seed in options.seeds]
  chosen = choose(runs)
  model = chosen.trained.model
  if options.weights:
    credit = "photographs darkened by ruas_jax.data.synthetic"
    write_pretrained(options.weights, "general", model, about(chosen, options.config, credit))

  photographs = kept_out()
  pairs = Pairs(Darkened(photographs, seed=1), photographs)
  figures = {"ours": evaluate(model, pairs)["mean"]}
  figures |= {name: evaluate_images(BASELINES[name], pairs)["mean"] for name in _SHOWN_BASELINES}
  normal = {name: image for name, image in zip(photographs.names, photographs, strict=True)}
  if options.normal:
    folder = ImageFolder(options.normal)
    normal |= dict(zip(folder.names, folder, strict=True))
  enhancer = Enhancer(model)
  kept = {name: finite_or_none(psnr(enhancer(image.astype(np.float32) / 255), image)) for name, image in normal.items()}
  print_table([{"method": name, **mean} for name, mean in figures.items()], "darkened photographs of scikit-image")
  print_table([{"photograph": name, "PSNR to itself": value} for name, value in kept.items()], "normal photographs")
  write_report(
    options.json,
    settings={"config": options.config, "seeds": options.seeds, "quick": options.quick, "images": len(images)},
    results={
      "figures": figures,
      "normal_psnr_to_itself": kept,
      "genotype": str(chosen.found.genotype),
      "parameters": model.parameters(),
      "macs": model.macs(400, 600),
      "weights_sha256": model.weights_sha256(),
      "chosen_seed": chosen.seed,
      "scores": {run.seed: run.score for run in runs},
    },
    bars={"normal_photographs_kept": min(value for value in kept.values() if value is not None)},
  )


def kept_out() -> ImageArrays:
  """Photographs of scikit-image that are not used for training."""
  return ImageArrays(_KEPT_OUT, [getattr(skimage.data, name)() for name in _KEPT_OUT])


if __name__ == "__main__":
  main()
