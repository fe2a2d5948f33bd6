"""The search of a configuration, its images, and the state of a finished search."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from etils import epath

from ruas_jax.config import Config, read_config
from ruas_jax.convolution import native
from ruas_jax.data.crops import random_crops
from ruas_jax.data.opening import open_source
from ruas_jax.data.padded import PaddedImages, check_crop, padded
from ruas_jax.data.sources import ImageSource, split_in_half
from ruas_jax.engine.checkpoint import is_checkpoint, read_about, read_arrays
from ruas_jax.engine.identity import plain
from ruas_jax.engine.leftovers import CONFIG
from ruas_jax.engine.seeding import seeded
from ruas_jax.engine.sources import Part
from ruas_jax.errors import UserError
from ruas_jax.lowlight.numbers import with_numbers
from ruas_jax.lowlight.objectives import DenoisingLoss, IlluminationLoss
from ruas_jax.lowlight.operations import CANDIDATES, Operation, operation_names
from ruas_jax.lowlight.problem import make_search_problem
from ruas_jax.nas.files import STATE, STATE_FORMAT
from ruas_jax.nas.setting import Setting, make_setting
from ruas_jax.nas.state import SearchState
from ruas_jax.optimizers import make_optimizer

ALPHA = "alpha.npz"
GENOTYPE = "genotype.json"
POPULATION = "population.json"
FRONT = "front.json"
RESULTS = (
  *(ALPHA, "alpha.png", GENOTYPE, "genotype.png", "losses.png", STATE, "checkpoint"),
  *(POPULATION, "population.png", FRONT, "front.png"),
)
"""All result files of searches, populations and trainings."""


def search_setting(
  config: Config,
  *,
  swept: Mapping[str, float] | None = None,
  operations: tuple[Operation, ...] = CANDIDATES,
  illumination_loss: IlluminationLoss | None = None,
  denoising_loss: DenoisingLoss | None = None,
  weight_optimizer: optax.GradientTransformation | None = None,
  alpha_optimizer: optax.GradientTransformation | None = None,
) -> Setting:
  """The problem, the options and the optimisers of `search`. `swept` maps paths of the configuration to numbers, which
  become the problem's `hyper`."""
  problem = make_search_problem(
    *(config.network, config.loss, config.search, sampler(config)),
    hyper=swept,
    operations=operations,
    illumination_loss=illumination_loss,
    denoising_loss=denoising_loss,
  )

  def configured(name):
    path = f"search.{name}"
    return lambda hyper: make_optimizer(with_numbers(getattr(config.search, name), hyper, path))

  return make_setting(
    *(problem, config.search),
    weight_optimizer or configured("weight_optimizer"),
    alpha_optimizer or configured("alpha_optimizer"),
  )


def sampler(config: Config) -> Callable[[Any, jax.Array], jax.Array]:
  """`(raw, key) -> images`: random crops of a batch of padded photographs, for search and training."""
  data = config.data

  def sample(raw, key):
    return random_crops(raw, key, crop=data.crop, dtype=jax.numpy.result_type(float), vary_exposure=data.vary_exposure)

  return sample


def open_images(
  config: Config, train: ImageSource | None, validation: ImageSource | None
) -> tuple[ImageSource, ImageSource | None]:
  """Training and validation images, not read yet. Sources that are given replace those of `config.data`. The validation
  images may be None."""
  data = config.data
  train = train if train is not None else open_source(data.train, tfds_dir=data.tfds_dir)
  if validation is None and data.val is not None:
    validation = open_source(data.val, tfds_dir=data.tfds_dir)
  return train, validation


def open_both(config: Config) -> tuple[ImageSource, ImageSource]:
  """Training and validation images of a search. Without validation images, these are random halves of the training
  images."""
  train, validation = open_images(config, None, None)
  return (train, validation) if validation is not None else split_in_half(train, seed=config.seed)


def as_elements(config: Config, images: ImageSource) -> PaddedImages | Part:
  """The images as elements of a run. Raises UserError if an image is smaller than the crop."""
  check_crop(images, config.data.crop)
  return padded(images)


def engine_arguments(
  config: Config, setting: Setting, train: ImageSource, validation: ImageSource | None
) -> dict[str, Any]:
  """The arguments that a search and a population of it share in the engine."""
  return {
    "problem": setting.problem,
    "train": as_elements(config, train),
    "validation": None if validation is None else as_elements(config, validation),
    "options": config.search,
    "batch_size": config.data.batch_size,
    "weight_optimizer": setting.optimizers.weights,
    "alpha_optimizer": setting.optimizers.alpha,
    "placement": config.data.placement,
    "repeat": True,
  }


def written(config: Config) -> dict[str, Any]:
  """The content of a search's `config.json`: the configuration, and beside it the parts that its method consists of."""
  return dataclasses.asdict(config) | {"parts": dataclasses.asdict(config.search.parts)}


def search_identity(kind: str, config: Config, **others: Any) -> dict[str, Any]:
  """`identify` of a search or a population. The number of steps may grow, unless the method's schedule depends on
  it."""
  ignored = ("training",) if config.search.scheduled else ("training", "search.steps")
  return identify(kind, config, *ignored, parts=dataclasses.asdict(config.search.parts), **others)


def identify(
  kind: str, config: Config, *ignored: str, images: Mapping[str, ImageSource | None], **more: Any
) -> dict[str, Any]:
  """Everything that determines the numbers of a run, as JSON.

  Args:
    kind: search, population or train.
    config: configuration of the experiment.
    ignored: paths of options that the numbers do not depend on, or that may grow.
    images: the sources, by their use; the identity of a source is the number, names and sizes of its images.
    more: further parts of the identity: JSON values, and functions and optimisers, which are identified by name.
  """
  values = dataclasses.asdict(config)
  for path in (*ignored, "data.placement", "data.tfds_dir"):
    *sections, last = path.split(".")
    del functools.reduce(dict.__getitem__, sections, values)[last]
  if values["network"]["space"] == "ruas":  # so that runs from before there were spaces go on
    del values["network"]["space"]
  table = config.search.latency_table
  if table is not None and "search" in values:  # its numbers count, not its path
    values["search"]["latency_table"] = hashlib.sha256(epath.Path(table).read_bytes()).hexdigest()[:12]
  described = {name: _describe(source) for name, source in images.items() if source is not None}
  return plain({"kind": kind, "config": values, "images": described} | more)


def arithmetic() -> str:
  """The form of the convolution in words. The last bits of a run depend on it."""
  form = native.form()
  on_cpu = jax.default_backend() == "cpu"
  return f"the native convolution ({form.about})" if form.native and on_cpu else "XLA's convolution"


def program_identity(
  kind: str, config: Config, *ignored: str, operations: tuple[Operation, ...], given: Mapping[str, Any], **more: Any
) -> dict[str, Any] | None:
  """What determines the program of a run's step, as JSON; None if the caller gave operations, losses or optimizers,
  whose code cannot be compared.

  Args:
    kind: search or train.
    config: configuration of the experiment.
    ignored: options that do not change the program, by path.
    operations: the candidates.
    given: losses and optimizers that the caller gave; None for each that is configured.
    more: further JSON values.
  """
  if operations is not CANDIDATES or any(value is not None for value in given.values()):
    return None
  return identify(kind, config, *ignored, "seed", "data.train", "data.val", images={}, **more)


def _describe(source: ImageSource) -> str:
  listed = "\n".join(f"{name} {size}" for name, size in zip(source.names, plain(source.sizes()), strict=True))
  return f"{len(source)} images, {hashlib.sha256(listed.encode()).hexdigest()[:12]}"


def load_search(workdir: str | os.PathLike) -> tuple[Config, SearchState]:
  """The configuration and the last state of a search that was finished in `workdir`. Only searches with the package's
  candidates, losses and optimisers can be loaded.

  Raises:
    UserError: there is no such search, it is damaged, or it had other candidates.
  """
  folder = epath.Path(workdir)
  if not is_checkpoint(folder / STATE):
    raise UserError(f"{workdir} holds no finished search")
  about, config = read_about(folder / STATE), read_config(folder / CONFIG)
  if about.get("format") != STATE_FORMAT or about.get("operations") != list(operation_names(CANDIDATES)):
    raise UserError(
      f"{workdir}: the state belongs to a search with other candidate operations, or to another version of ruas_jax"
    )
  shapes, *_ = jax.eval_shape(seeded(search_setting(config).init), 0)
  return config, read_arrays(folder / STATE, shapes)
