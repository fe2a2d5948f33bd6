"""Searching an architecture: data in, genotype out."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
import optax
from etils import epath

from ruas_jax.architecture_search.budget import derive_within, require_within
from ruas_jax.architecture_search.diagnostics import make_diagnostics
from ruas_jax.architecture_search.state import SearchState
from ruas_jax.architecture_search.step import make_search_step
from ruas_jax.config import Config
from ruas_jax.data.feed import Reading, StreamFeed, open_feed
from ruas_jax.data.sources import ImageSource
from ruas_jax.files import write_atomically
from ruas_jax.objectives import DenoisingLoss, IlluminationLoss
from ruas_jax.plots import draw_genotype, plot_alpha, plot_losses
from ruas_jax.retinex.network import build_network
from ruas_jax.runner.loop import Record, iterate, prepare_workdir
from ruas_jax.runner.observer import Observer
from ruas_jax.runner.setting import describe, open_sources, readings_of, save_state
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
      `genotype.png`, `losses.png`, and `state`, the frozen search; any path that `etils.epath` understands. None:
      nothing is written.
    overwrite: replace a run that is already in `workdir`.
    train_images, val_images: sources in place of those that `config.data` names.
    operations: the candidates.
    illumination_loss: `(IlluminationOutput, images) -> []` in place of the configured L_t.
    denoising_loss: `(x, u) -> []` in place of the configured L_n.
    weight_optimizer, alpha_optimizer: in place of the configured ones; the hypergradient looks through the former.
  Raises:
    UserError: the data, the configuration or the workdir do not serve, or a loss is not finite.
  """
  check_budget(config, operations)
  train, validation = open_sources(config, train_images, val_images)
  feed = open_feed(readings_of(config, train, validation), crop=config.data.crop, placement=config.data.placement)
  options, names = config.search, operation_names(operations)
  players, weight_optimizer, alpha_optimizer, init = describe(
    config,
    operations=operations,
    illumination_loss=illumination_loss,
    denoising_loss=denoising_loss,
    weight_optimizer=weight_optimizer,
    alpha_optimizer=alpha_optimizer,
  )
  init_key, step_key = jax.random.split(jax.random.key(config.seed))
  state = jax.jit(init)(init_key)
  crops = {"crop": config.data.crop, "vary_exposure": config.data.vary_exposure}
  step = make_search_step(players, options, weight_optimizer, alpha_optimizer, **crops)
  diagnose = make_diagnostics(players, options, weight_optimizer, names, **crops)

  measured = options.diagnostics
  held_out = Reading(validation, (measured.batches, config.data.batch_size), seed=2 * config.seed + 1)
  folder = prepare_workdir(workdir, config, overwrite=overwrite)
  with contextlib.closing(feed), contextlib.closing(_batches(held_out)) as held_out:
    observer = Observer(measured, jax.jit(diagnose), held_out, jax.random.fold_in(init_key, 1))
    state, metrics = iterate(
      step,
      state,
      feed,
      step_key,
      steps=options.steps,
      description="search",
      folder=folder,
      observe=observer if measured.every else None,
      every=measured.every,
    )
  if observer.chosen is not None:
    state = state._replace(alpha=observer.chosen)
  return finish_search(folder, state, metrics, config, operations)


def finish_search(
  folder: epath.Path | None,
  state: SearchState,
  metrics: list[Record],
  config: Config,
  operations: tuple[Operation, ...] = CANDIDATES,
) -> SearchResult:
  """The result of a search that has come to its end, written into its work directory."""
  alpha, names = jax.device_get(state.alpha), operation_names(operations)
  genotype = derive_within(config.search.parameters, alpha, names, _size_of(config, operations))
  if folder:
    save_state(folder, state, names)
    content = io.BytesIO()
    np.savez(content, operations=np.array(names), **alpha)
    write_atomically(folder / "alpha.npz", content.getvalue())
    plot_alpha(folder / "alpha.png", alpha, names, genotype)
    draw_genotype(folder / "genotype.png", genotype)
    plot_losses(folder / "losses.png", metrics)
    genotype.save(folder / "genotype.json")  # last: it says that the run is complete
  return SearchResult(genotype, state, metrics)


def check_budget(config: Config, operations: tuple[Operation, ...] = CANDIDATES) -> None:
  """Raises UserError where no network of these candidates is as small as `search.parameters` says."""
  require_within(config.search.parameters, operation_names(operations), _size_of(config, operations))


def _size_of(config: Config, operations: tuple[Operation, ...]) -> Callable[[Genotype], int]:
  return lambda genotype: build_network(config.network, genotype, operations).parameters()


def _batches(reading: Reading) -> Iterator[dict]:
  """The batches of a reading, for a look now and then."""
  with contextlib.closing(StreamFeed([reading])) as feed:
    while True:
      yield jax.tree.map(lambda leaf: leaf[0], feed.read(1))[0]
