"""Code that the paper's studies of trained networks share: options, opened data, and running a folded model."""

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
  """The configuration of every training, and the pairs for evaluation."""

  config: Config
  pairs: Pairs


def add_study(parser: argparse.ArgumentParser, *, config: str = "lol") -> None:
  """Adds the options that `open_study` reads."""
  parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with train/low and dev/{low,high}")
  parser.add_argument("--config", default=config, help=f"configuration of the trainings (default: {config})")
  parser.add_argument("--seed", type=int, default=0, help="seed of the trainings; of several, the first one")
  parser.add_argument("--steps", type=at_least(1), help="steps of every training (default: the configuration's)")
  parser.add_argument("--every", type=at_least(1), default=1, metavar="K", help="use only every K-th pair of dev")


def open_study(options: argparse.Namespace) -> Study:
  config = configuration(options.config, seed=options.seed, quick=options.quick)
  if options.steps:
    config = config.with_overrides({"training.steps": options.steps})
  pairs = open_lol(options.data, "dev", quick=options.quick)
  return Study(config, pairs.subset(range(0, len(pairs), options.every)))


def settings_of(options: argparse.Namespace, study: Study) -> dict[str, Any]:
  """The settings for a study's report: everything that its numbers depend on."""
  return {
    "quick": options.quick,
    "config": dataclasses.asdict(study.config),
    "config_name": options.config,
    "seed": options.seed,
    "pairs": study.pairs.names,
  }


def at_least(least: int) -> Callable[[str], int]:
  """Type of an option that is a whole number of at least `least`."""

  def number(text: str) -> int:
    if (value := int(text)) < least:
      raise argparse.ArgumentTypeError(f"{text}: must be at least {least}")
    return value

  return number


def transform_of(folded: FoldedModel) -> Transform:
  """The model as a function of float32 images. Models that differ only in their numbers share a program."""
  return lambda image: np.asarray(enhance_program()(folded, image))


@functools.cache
def enhance_program() -> Callable[[FoldedModel, jax.Array], jax.Array]:
  """`enhance_folded`, compiled with this package's options."""
  return jax.jit(enhance_folded, compiler_options=compiler_options())
