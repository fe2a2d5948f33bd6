"""What the studies of many architectures share: their cost, and their training with its figures."""

import pathlib

import numpy as np

from benchmarks.paper.study import transform_of
from ruas_jax.config import Config
from ruas_jax.data.sources import ImageSource, Pairs
from ruas_jax.evaluation.evaluate import evaluate_images
from ruas_jax.experiments.score import score
from ruas_jax.experiments.train import train
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.network import build_network, count_folded_macs
from ruas_jax.photos.model import fold

FIGURES = ("psnr", "ssim", "score")


def operations_of(config: Config, genotype: Genotype) -> dict[str, int]:
  """Multiply-accumulates of a pixel, and the parameters."""
  network = build_network(config.network, genotype)
  return {"operations": count_folded_macs(network, "i+n", 1, 1), "parameters": network.parameters()}


def train_and_measure(
  folder: pathlib.Path, config: Config, genotype: Genotype, images: ImageSource, pairs: Pairs
) -> dict[str, float]:
  """The metrics of one training on the pairs, and its score without references. A finished training is kept."""
  model = train(config, genotype, workdir=folder, images=images).model.with_variant("i+n")
  measured = evaluate_images(transform_of(fold(model)), pairs)["mean"]
  found = measured | {"score": score(model, config, images)["total"]}
  print(folder, found, flush=True)
  return found


def means(runs: list[dict[str, float]]) -> dict[str, float]:
  """The means of the `FIGURES` over trainings."""
  return {name: float(np.mean([run[name] for run in runs])) for name in FIGURES}
