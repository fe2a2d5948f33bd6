"""The search that a configuration describes, its images, and the state of a finished one."""

import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import optax
from etils import epath

from ruas_jax.architecture_search.state import SearchState, init_state
from ruas_jax.architecture_search.step import batches_per_round
from ruas_jax.architecture_search.strategies import Player, make_players
from ruas_jax.config import Config, read_config
from ruas_jax.data.feed import Reading
from ruas_jax.data.sources import ImageSource, open_source, split_in_half
from ruas_jax.errors import UserError
from ruas_jax.objectives import DenoisingLoss, IlluminationLoss, make_objectives
from ruas_jax.optimizers import make_optimizer
from ruas_jax.retinex.network import build_network
from ruas_jax.runner.workdir import CONFIG
from ruas_jax.runtime.checkpoint import is_checkpoint, read_about, read_arrays, save_checkpoint
from ruas_jax.search_space.operations import CANDIDATES, Operation, operation_names

_FORMAT = 1
STATE = "state"  # of a work directory


class Setting(NamedTuple):
  """The search that a configuration describes, before its data.

  Attributes:
    players: its bilevel problems.
    weight_optimizer, alpha_optimizer: what moves weights and alpha.
    init: `key -> SearchState`, to be jitted.
  """

  players: tuple[Player, ...]
  weight_optimizer: optax.GradientTransformation
  alpha_optimizer: optax.GradientTransformation
  init: Callable[[jax.Array], SearchState]


def describe(
  config: Config,
  *,
  operations: tuple[Operation, ...] = CANDIDATES,
  illumination_loss: IlluminationLoss | None = None,
  denoising_loss: DenoisingLoss | None = None,
  weight_optimizer: optax.GradientTransformation | None = None,
  alpha_optimizer: optax.GradientTransformation | None = None,
) -> Setting:
  """What `search` works on; arguments as there."""
  network = build_network(config.network, operations=operations)
  objectives = make_objectives(network, config.loss, illumination_loss=illumination_loss, denoising_loss=denoising_loss)
  players = make_players(config.search, objectives, config.loss.beta)
  weight_optimizer = weight_optimizer or make_optimizer(config.search.weight_optimizer)
  alpha_optimizer = alpha_optimizer or make_optimizer(config.search.alpha_optimizer)

  def init(key):
    return init_state(network, players, weight_optimizer, alpha_optimizer, key)

  return Setting(players, weight_optimizer, alpha_optimizer, init)


def seeded(init: Callable) -> Callable:
  """`(seed, *arguments) -> (init(key, *arguments), key, step_key)`, to be jitted: a run's first state and its two keys,
  of that state and of the steps, by one program."""

  def start(seed, *arguments):
    init_key, step_key = jax.random.split(jax.random.key(seed))
    return init(init_key, *arguments), init_key, step_key

  return start


def open_sources(
  config: Config, train: ImageSource | None, validation: ImageSource | None
) -> tuple[ImageSource, ImageSource]:
  """The training and the validation images of a search, not yet looked into; sources given go before those that
  `config.data` names."""
  return split_sources(config, *open_places(config, train, validation))


def open_places(
  config: Config, train: ImageSource | None, validation: ImageSource | None
) -> tuple[ImageSource, ImageSource | None]:
  """The same before any split: without a place for validation, None stands for it."""
  data = config.data
  train = train if train is not None else open_source(data.train, tfds_dir=data.tfds_dir)
  if validation is None and data.val is not None:
    validation = open_source(data.val, tfds_dir=data.tfds_dir)
  return train, validation


def split_sources(
  config: Config, train: ImageSource, validation: ImageSource | None
) -> tuple[ImageSource, ImageSource]:
  """Training and validation images: without the latter, halves of the former by the configuration's seed."""
  return (train, validation) if validation is not None else split_in_half(train, seed=config.seed)


def readings_of(config: Config, train: ImageSource, validation: ImageSource) -> tuple[Reading, Reading]:
  """What a round reads: its train and its validation batches, `[N, B]` images each."""
  numbers, size = batches_per_round(config.search), config.data.batch_size
  return tuple(
    Reading(source, (number, size), seed=2 * config.seed + position)
    for position, (source, number) in enumerate(zip((train, validation), numbers, strict=True))
  )


def save_state(folder: epath.Path, state: SearchState, names: tuple[str, ...]) -> None:
  """Freezes the last state of a search in its work directory."""
  save_checkpoint(folder / STATE, state, {"format": _FORMAT, "operations": names})


def load_search(workdir: str | os.PathLike) -> tuple[Config, SearchState]:
  """The configuration and the last state of a search that was finished in `workdir`, with the package's own candidates,
  losses and optimisers.

  Raises:
    UserError: there is none, or it is damaged, or it was made with others.
  """
  folder = epath.Path(workdir)
  if not is_checkpoint(folder / STATE):
    raise UserError(f"{workdir} holds no finished search")
  about, config = read_about(folder / STATE), read_config(folder / CONFIG)
  if about.get("format") != _FORMAT or about.get("operations") != list(operation_names(CANDIDATES)):
    raise UserError(f"{workdir}: a search with other candidate operations, or of another version")
  shapes, *_ = jax.eval_shape(seeded(describe(config).init), 0)
  return config, read_arrays(folder / STATE, shapes)
