"""Searching an architecture: data in, genotype out."""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
import optax

from ruas_jax.architecture_search.state import SearchState, init_state
from ruas_jax.architecture_search.step import batches_per_round, make_search_step
from ruas_jax.architecture_search.strategies import make_players
from ruas_jax.config import Config
from ruas_jax.data.pipeline import check_images, make_batches
from ruas_jax.data.sources import ImageSource, open_source, split_in_half
from ruas_jax.files import write_atomically
from ruas_jax.objectives import DenoisingLoss, IlluminationLoss, make_objectives
from ruas_jax.optimizers import make_optimizer
from ruas_jax.plots import draw_genotype, plot_alpha, plot_losses
from ruas_jax.retinex.network import build_network
from ruas_jax.runner.loop import Record, iterate, prepare_workdir
from ruas_jax.search_space.genotype import Genotype
from ruas_jax.search_space.operations import CANDIDATES, Operation, operation_names


class SearchResult(NamedTuple):
  """Attributes:
  genotype: the architecture found.
  state: the last state of the search, alpha and the supernet's weights in it.
  metrics: a record for each step.
  """

  genotype: Genotype
  state: SearchState
  metrics: list[Record]


def search(
  config: Config = Config(),
  *,
  workdir: str | os.PathLike | None = None,
  overwrite: bool = False,
  train_images: ImageSource | None = None,
  val_images: ImageSource | None = None,
  operations: tuple[Operation, ...] = CANDIDATES,
  illumination_loss: IlluminationLoss | None = None,
  denoising_loss: DenoisingLoss | None = None,
  weight_optimizer: optax.GradientTransformation | None = None,
  alpha_optimizer: optax.GradientTransformation | None = None,
) -> SearchResult:
  """Searches both cells on low-light images alone, by the strategy of `config.search`.

  Args:
    config: the experiment.
    workdir: gets `genotype.json`, `alpha.npz`, `metrics.jsonl`, `config.json` and the pictures `alpha.png`,
      `genotype.png`, `losses.png`; any path that `etils.epath` understands. None: nothing is written.
    overwrite: replace a run that is already in `workdir`.
    train_images, val_images: sources in place of those that `config.data` names.
    operations: the candidates.
    illumination_loss: `(IlluminationOutput, images) -> []` in place of the configured L_t.
    denoising_loss: `(x, u) -> []` in place of the configured L_n.
    weight_optimizer, alpha_optimizer: in place of the configured ones; the hypergradient looks through the former.
  Raises:
    UserError: the data, the configuration or the workdir do not serve, or a loss is not finite.
  """
  train, validation = _sources(config, train_images, val_images)
  options = config.search
  network = build_network(config.network, operations=operations)
  objectives = make_objectives(network, config.loss, illumination_loss=illumination_loss, denoising_loss=denoising_loss)
  players = make_players(options, objectives, config.loss.beta)
  weight_optimizer = weight_optimizer or make_optimizer(options.weight_optimizer)
  alpha_optimizer = alpha_optimizer or make_optimizer(options.alpha_optimizer)
  init_key, step_key = jax.random.split(jax.random.key(config.seed))
  state = jax.jit(lambda key: init_state(network, players, weight_optimizer, alpha_optimizer, key))(init_key)
  step = make_search_step(players, options, weight_optimizer, alpha_optimizer, crop=config.data.crop)

  folder = prepare_workdir(workdir, config, overwrite=overwrite)
  with contextlib.closing(_rounds(config, train, validation)) as batches:
    state, metrics = iterate(step, state, batches, step_key, steps=options.steps, description="search", folder=folder)
  alpha = jax.device_get(state.alpha)
  genotype = Genotype.derive(alpha["illumination"], alpha["denoising"], operation_names(operations))
  if folder:
    content = io.BytesIO()
    np.savez(content, operations=np.array(operation_names(operations)), **alpha)
    write_atomically(folder / "alpha.npz", content.getvalue())
    plot_alpha(folder / "alpha.png", alpha, operation_names(operations))
    draw_genotype(folder / "genotype.png", genotype)
    plot_losses(folder / "losses.png", metrics)
    genotype.save(folder / "genotype.json")  # last: it says that the run is complete
  return SearchResult(genotype, state, metrics)


def _sources(
  config: Config, train: ImageSource | None, validation: ImageSource | None
) -> tuple[ImageSource, ImageSource]:
  data = config.data
  train = train if train is not None else open_source(data.train, tfds_dir=data.tfds_dir)
  if validation is None and data.val is not None:
    validation = open_source(data.val, tfds_dir=data.tfds_dir)
  if validation is None:
    train, validation = split_in_half(train, seed=config.seed)
  check_images((train, validation), data.crop)
  return train, validation


def _rounds(config: Config, train: ImageSource, validation: ImageSource) -> Iterator[tuple]:
  """The train and validation batches of each round, `[N, B, ...]`."""
  count, size = batches_per_round(config.search), config.data.batch_size
  streams = [
    make_batches(source, batch_size=number * size, seed=2 * config.seed + position)
    for position, (source, number) in enumerate(zip((train, validation), count, strict=True))
  ]
  try:
    while True:
      yield tuple(
        {name: values.reshape(number, size, *values.shape[1:]) for name, values in next(stream).items()}
        for stream, number in zip(streams, count, strict=True)
      )
  finally:
    for stream in streams:
      stream.close()
