"""Searching an architecture: data in, genotype out."""

import contextlib
import io
import os
from collections.abc import Callable
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
from ruas_jax.retinex.network import build_network
from ruas_jax.runner.convergence import ConvergenceWatch
from ruas_jax.runner.device_loop import DeviceLoop
from ruas_jax.runner.loop import iterate
from ruas_jax.runner.observer import Observer
from ruas_jax.runner.options import RunOptions
from ruas_jax.runner.records import Record
from ruas_jax.runner.setting import describe, open_sources, readings_of, save_state, seeded
from ruas_jax.runner.workdir import identify, open_workdir
from ruas_jax.runtime.mesh import Layout
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
  run: RunOptions = RunOptions(),
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
      `genotype.png`, `losses.png`, `state`, the frozen search, and `snapshots`, from which it goes on by itself when
      it was stopped; any path that `etils.epath` understands. None: nothing is written.
    run: how it is carried out: over which devices, how often it is saved, and whether an earlier run is gone on with.
    train_images, val_images: sources in place of those that `config.data` names.
    operations: the candidates.
    illumination_loss: `(IlluminationOutput, images) -> []` in place of the configured L_t.
    denoising_loss: `(x, u) -> []` in place of the configured L_n.
    weight_optimizer, alpha_optimizer: in place of the configured ones; the hypergradient looks through the former.
  Raises:
    UserError: the data, the configuration, the mesh or the workdir do not serve, or a loss is not finite.
    Preempted: SIGTERM came, and the search is saved in `workdir`.
  """
  check_budget(config, operations)
  layout = Layout(run.mesh, batch_size=config.data.batch_size)
  train, validation = open_sources(config, train_images, val_images)
  options, names = config.search, operation_names(operations)
  own = {"illumination_loss": illumination_loss, "denoising_loss": denoising_loss}
  own |= {"weight_optimizer": weight_optimizer, "alpha_optimizer": alpha_optimizer}
  images = {"train": train, "val": validation}
  identity = identify("search", config, "training", "search.steps", images=images, operations=names, **own)
  feed = open_feed(
    readings_of(config, train, validation), crop=config.data.crop, placement=config.data.placement, rows=layout.rows
  )
  players, weight_optimizer, alpha_optimizer, init = describe(config, operations=operations, **own)
  state, init_key, step_key = jax.jit(seeded(init))(np.int32(config.seed))
  crops = {"crop": config.data.crop, "vary_exposure": config.data.vary_exposure}
  step = make_search_step(players, options, weight_optimizer, alpha_optimizer, **crops)

  with contextlib.ExitStack() as stack:
    stack.enter_context(contextlib.closing(feed))
    place = stack.enter_context(open_workdir(workdir, config, identity, run, steps=options.steps))
    observer = None
    if options.diagnostics.every:
      diagnose = jax.jit(make_diagnostics(players, options, weight_optimizer, names, **crops))
      looks = (options.diagnostics.batches, config.data.batch_size)
      held_out = StreamFeed([Reading(validation, looks, seed=2 * config.seed + 1)])
      stack.enter_context(contextlib.closing(held_out))
      observer = Observer(options.diagnostics, diagnose, held_out, jax.random.fold_in(init_key, 1))
    loop = DeviceLoop(step, state, feed, step_key, layout=layout, largest_loss=run.largest_loss)
    watch = ConvergenceWatch(options.hypergradient)
    outcome = iterate(loop, steps=options.steps, description="search", workdir=place, observer=observer, watch=watch)
    state = jax.device_put(outcome.state)
    if observer and observer.chosen is not None:
      state = state._replace(alpha=observer.chosen)
    return finish_search(place.folder, state, outcome.records[0], config, operations)


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
    from ruas_jax.plots import draw_genotype, plot_alpha, plot_losses  # matplotlib, for a work directory alone

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
