"""Searching the architectures of RUAS: data in, genotype out."""

import dataclasses
import io
import os
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from etils import epath

from ruas_jax.config import Config
from ruas_jax.data.sources import ImageSource
from ruas_jax.engine.records import Record
from ruas_jax.engine.run_options import RunOptions
from ruas_jax.experiments.setting import GENOTYPE, RESULTS, as_elements, identify, open_images, search_setting
from ruas_jax.files import write_atomically
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.objectives import DenoisingLoss, IlluminationLoss
from ruas_jax.lowlight.operations import CANDIDATES, Operation, operation_names
from ruas_jax.nas import one_search
from ruas_jax.nas.files import RunFiles
from ruas_jax.nas.state import SearchState


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
      `genotype.png`, `losses.png`, `state`, the frozen search, and `snapshots`, from which the search is resumed when
      it was stopped; any path that `etils.epath` understands. None: nothing is written.
    run: over which devices, how often it is saved, and whether an earlier run is resumed.
    train_images, val_images: sources in place of those that `config.data` names.
    operations: the candidates.
    illumination_loss: `(IlluminationOutput, images) -> []` in place of the configured L_t.
    denoising_loss: `(x, u) -> []` in place of the configured L_n.
    weight_optimizer, alpha_optimizer: in place of the configured ones; the hypergradient looks through the former.
  Raises:
    UserError: the data, the configuration, the mesh or the workdir do not fit, or a loss is not finite.
    Preempted: SIGTERM came, and the search is saved in `workdir`.
  """
  given = {"illumination_loss": illumination_loss, "denoising_loss": denoising_loss}
  given |= {"weight_optimizer": weight_optimizer, "alpha_optimizer": alpha_optimizer}
  setting = search_setting(config, operations=operations, **given)
  train, validation = open_images(config, train_images, val_images)
  images, names = {"train": train, "val": validation}, operation_names(operations)
  found = one_search.search(
    setting.problem,
    train=as_elements(config, train),
    validation=None if validation is None else as_elements(config, validation),
    options=config.search,
    batch_size=config.data.batch_size,
    seed=config.seed,
    workdir=workdir,
    run=run,
    weight_optimizer=setting.optimizers.weights,
    alpha_optimizer=setting.optimizers.alpha,
    placement=config.data.placement,
    repeat=True,
    files=search_files(
      config,
      names,
      identify("search", config, "training", "search.steps", images=images, operations=names, **given),
    ),
  )
  return result_of(found)


def search_files(config: Config, names: tuple[str, ...], identity: dict[str, Any] | None = None) -> RunFiles:
  """What RUAS adds to the folder of a search; `names` are the candidates'."""

  def write(folder: epath.Path, found: one_search.SearchResult) -> None:
    from ruas_jax.plots import draw_genotype, plot_alpha, plot_losses

    alpha, genotype = jax.device_get(found.alpha), Genotype.from_dict(found.derived)
    content = io.BytesIO()
    np.savez(content, operations=np.array(names), **alpha)
    write_atomically(folder / "alpha.npz", content.getvalue())
    plot_alpha(folder / "alpha.png", alpha, names, genotype)
    draw_genotype(folder / "genotype.png", genotype)
    plot_losses(folder / "losses.png", found.metrics)

  return RunFiles(
    config=dataclasses.asdict(config),
    identity=identity,
    derived=GENOTYPE,
    outputs=RESULTS,
    about={"operations": names},
    write=write,
  )


def result_of(found: one_search.SearchResult) -> SearchResult:
  """RUAS's result of a search of the engine."""
  return SearchResult(Genotype.from_dict(found.derived), found.state, found.metrics)
