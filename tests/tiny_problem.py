"""A problem that is small enough for tests; this file is a configuration too (`--config tests/tiny_problem.py`)."""

import functools
import pathlib

import jax
import numpy as np
from PIL import Image

from ruas_jax.commands.app import main
from ruas_jax.config import Config, TrainingOptions
from ruas_jax.data.options import DataOptions
from ruas_jax.engine.journal import OF_THE_MACHINE
from ruas_jax.engine.metric_log import read_metrics
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.operations import CANDIDATES
from ruas_jax.lowlight.options import DenoisingOptions, IlluminationOptions, NetworkOptions
from ruas_jax.lowlight.search_options import RUASSearchOptions
from ruas_jax.photos.model import Model

CONFIG = __file__
HEIGHT, WIDTH = 16, 20
SEARCH = RUASSearchOptions(steps=3, hypergradient="first_order")  # the one that compiles fastest
NETWORK = NetworkOptions(illumination=IlluminationOptions(stages=2), denoising=DenoisingOptions(stages=2))
# A candidate of each kind: without weights, of single pixels, and residual and dilated. Fewer compile sooner.
FEW = tuple(one for one in CANDIDATES if one.name in ("skip", "conv_1x1", "residual_dilated_conv_3x3"))


def get_config() -> Config:
  """One stage each, which compiles soonest."""
  network = NetworkOptions(illumination=IlluminationOptions(stages=1), denoising=DenoisingOptions(stages=1))
  return Config(network=network, data=DataOptions(crop=8), search=SEARCH, training=TrainingOptions(steps=3))


def dark_images(count: int, *, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> list[np.ndarray]:
  """uint8 [H, W, 3] each: no pixel brighter than a quarter."""
  rng = np.random.default_rng(seed)
  return [rng.integers(0, 64, (height, width, 3)).astype(np.uint8) for _ in range(count)]


def write_images(folder: pathlib.Path, images) -> pathlib.Path:
  """PNG files 0.png, 1.png, ..."""
  folder.mkdir(parents=True, exist_ok=True)
  for position, image in enumerate(images):
    Image.fromarray(image).save(folder / f"{position}.png")
  return folder


def truncate(path: pathlib.Path) -> None:
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@functools.cache
def fresh_model(seed: int = 0) -> Model:
  """An untrained model of the published genotype."""
  genotype = Genotype.named("published")
  return Model(jax.jit(build_network(NETWORK, genotype).init_weights)(jax.random.key(seed)), genotype, NETWORK)


def logged(workdir: pathlib.Path) -> list[dict]:
  """The records of a run but for what is another in every process: time, speed and memory."""
  return [
    {name: value for name, value in record.items() if name not in OF_THE_MACHINE}
    for record in read_metrics(workdir / "metrics.jsonl")
  ]


def ruas(*arguments) -> int:
  """The command line, in this process; its exit code."""
  try:
    main([str(argument) for argument in arguments])
  except SystemExit as stop:
    return stop.code
  return 0
