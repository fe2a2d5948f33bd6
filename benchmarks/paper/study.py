"""What the paper's studies of trained networks share: their options, what these open, and how a folded model is run."""

import argparse
import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.paper.setting import Transform, configuration, open_lol
from ruas_jax.config import Config
from ruas_jax.data.sources import Pairs
from ruas_jax.engine.compiler import compiler_options
from ruas_jax.photos.model import FoldedModel, enhance_folded


class Study(NamedTuple):
  """The recipe of every training, and the pairs to evaluate on."""

  config: Config
  pairs: Pairs


def add_study(parser: argparse.ArgumentParser, *, config: str = "lol") -> None:
  """The options that `open_study` reads."""
  parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with train/low and dev/{low,high}")
  parser.add_argument("--config", default=config, help=f"configuration of the trainings (default: {config})")
  parser.add_argument("--seed", type=int, default=0, help="of the trainings; the first one where there are several")
  parser.add_argument("--steps", type=at_least(1), help="of every training, in place of the configuration's")
  parser.add_argument("--every", type=at_least(1), default=1, metavar="K", help="evaluate on every K-th pair of dev")


def open_study(options: argparse.Namespace) -> Study:
  config = configuration(options.config, seed=options.seed, quick=options.quick)
  if options.steps:
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, steps=options.steps))
  pairs = open_lol(options.data, "dev", quick=options.quick)
  return Study(config, pairs.subset(range(0, len(pairs), options.every)))


def settings_of(options: argparse.Namespace, study: Study) -> dict[str, Any]:
  """What a study's figures depend on, for its report."""
  return {
    "quick": options.quick,
    "config": dataclasses.asdict(study.config),
    "config_name": options.config,
    "seed": options.seed,
    "pairs": study.pairs.names,
  }


def at_least(least: int) -> Callable[[str], int]:
  """An option's type: a whole number that is not smaller."""

  def number(text: str) -> int:
    if (value := int(text)) < least:
      raise argparse.ArgumentTypeError(f"{text}: must be at least {least}")
    return value

  return number


def transform_of(folded: FoldedModel) -> Transform:
  """The model as a function of float32 images; models that differ in their numbers alone share a program."""
  return lambda image: np.asarray(enhance_program()(folded, image))


@functools.cache
def enhance_program() -> Callable[[FoldedModel, jax.Array], jax.Array]:
  """`enhance_folded`, compiled as this package runs it."""
  return jax.jit(enhance_folded, compiler_options=compiler_options())
