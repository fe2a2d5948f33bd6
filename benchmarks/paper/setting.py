"""Code that the paper's tables and figures share: options, images, models, and shortened configurations."""

import argparse
import pathlib
from collections.abc import Callable

import numpy as np

from benchmarks.report import argument_parser
from ruas_jax.config import Config, load_config
from ruas_jax.data.sources import ImageArrays, ImageFolder, ImageSource, PairFolders, Pairs
from ruas_jax.evaluation.baselines import BASELINES
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.options import RELEASED
from ruas_jax.photos.enhancer import Enhancer
from ruas_jax.photos.model import Model, load
from ruas_jax.photos.pretrained import Pretrained, load_pretrained
from ruas_jax.photos.released import convert_released
from ruas_jax.photos.state_dict import read_state_dict

Transform = Callable[[np.ndarray], np.ndarray]
"""A method: maps a float image [H, W, 3] in [0, 1] to one with the same shape."""

_QUICK_IMAGES = 2
_QUICK_STEPS = 3
_QUICK_CROP = 32


def paper_parser(description: str, *, picture: bool = True) -> argparse.ArgumentParser:
  """A parser with the options of every benchmark, and one for the picture."""
  parser = argument_parser(description)
  if picture:
    parser.add_argument("--picture", metavar="FILE", type=pathlib.Path, help="write the picture to this file")
  return parser


def add_models(parser: argparse.ArgumentParser, *, pretrained: Pretrained) -> None:
  """Adds `--checkpoint`, which replaces the bundled weights `pretrained`."""
  parser.add_argument("--checkpoint", help="run folder of `ruas train`, instead of the bundled weights")
  parser.set_defaults(pretrained=pretrained)


def ours(arguments: argparse.Namespace) -> Model:
  """The model that the options of `add_models` select."""
  return load(arguments.checkpoint) if arguments.checkpoint else load_pretrained(arguments.pretrained)


def released(path: str) -> Model:
  """The model in a user's copy of the released weights."""
  genotype = Genotype.named("published")
  return Model(convert_released(read_state_dict(path), genotype), genotype, RELEASED)


def compared(model: Model, headings: dict[str, str], theirs: Model | None = None) -> dict[str, Transform]:
  """Heading -> method: the baselines of `headings`, the released weights if the user has them, and our model."""
  methods: dict[str, Transform] = {heading: BASELINES[name] for name, heading in headings.items()}
  if theirs:
    methods["released weights"] = Enhancer(theirs)
  return methods | {"ours": Enhancer(model)}


def open_lol(folder: pathlib.Path, part: str, *, quick: bool = False) -> Pairs:
  """The pairs `folder/part/{low,high}`; with `quick`, only two of them."""
  pairs = PairFolders(folder / part / "low", folder / part / "high")
  return pairs.subset(range(_QUICK_IMAGES)) if quick else pairs


def train_images(folder: pathlib.Path) -> ImageSource:
  """The low-light images `folder/train/low`, decoded once."""
  source = ImageFolder(folder / "train" / "low")
  return ImageArrays(source.names, [source[index] for index in range(len(source))])


def configuration(name: str, *, seed: int = 0, quick: bool = False) -> Config:
  """The recorded configuration; with `quick`, a few steps on small crops."""
  config = load_config(name).with_overrides({"seed": seed})
  if not quick:
    return config
  return config.with_overrides({"data.crop": _QUICK_CROP, "search.steps": _QUICK_STEPS, "training.steps": _QUICK_STEPS})
