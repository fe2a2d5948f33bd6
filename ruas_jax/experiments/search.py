"""Searching the architectures of RUAS: takes data, returns a genotype."""

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
from ruas_jax.experiments.setting import (
  ALPHA,
  GENOTYPE,
  RESULTS,
  arithmetic,
  engine_arguments,
  open_images,
  program_identity,
  search_identity,
  search_setting,
  written,
)
from ruas_jax.files import write_atomically
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.objectives import DenoisingLoss, IlluminationLoss
from ruas_jax.lowlight.operations import CANDIDATES, Operation, operation_names
from ruas_jax.lowlight.space import named_choices, size_values
from ruas_jax.nas import one_search
from ruas_jax.nas.files import RunFiles
from ruas_jax.nas.state import SearchState


class SearchResult(NamedTuple):
  """Attributes:
  genotype: the genotype that was found.
  state: the last state of the search, with alpha and the supernet's weights.
  metrics: one record for each step.
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
  """Searches both cells on low-light images only, by the strategy of `config.search`.

  Args:
    config: the experiment.
    workdir: folder for `genotype.json`, `alpha.npz`, `metrics.jsonl`, `config.json`, the pictures `alpha.png`,
      `genotype.png` and `losses.png`, the final `state`, and `snapshots`, from which a stopped search is resumed; any
      path that `etils.epath` understands. None: nothing is written.
    run: the devices, how often the run is saved, and whether an earlier run is resumed.
    train_images, val_images: sources that replace those of `config.data`.
    operations: the candidates.
    illumination_loss: `(IlluminationOutput, images) -> []`, replaces L_t of the configuration.
    denoising_loss: `(x, u) -> []`, replaces L_n of the configuration.
    weight_optimizer, alpha_optimizer: replace those of the configuration. The hypergradient is computed through the
      weight optimiser.
  Raises:
    UserError: the data, the configuration, the mesh or the folder do not fit together, or a loss is not finite.
    Preempted: SIGTERM stopped the search, which is saved in `workdir`.
  """
  given = {"illumination_loss": illumination_loss, "denoising_loss": denoising_loss}
  given |= {"weight_optimizer": weight_optimizer, "alpha_optimizer": alpha_optimizer}
  setting = search_setting(config, operations=operations, **given)
  train, validation = open_images(config, train_images, val_images)
  images, names = {"train": train, "val": validation}, operation_names(operations)
  scheduled = config.search.scheduled or config.search.strategy == "separate"
  unrelated = ["training"] + ["search.steps"] * (not scheduled)  # to the step's program
  found = one_search.search(
    **engine_arguments(config, setting, train, validation),
    seed=config.seed,
    workdir=workdir,
    run=run,
    files=search_files(
      config,
      names,
      search_identity("search", config, images=images, operations=names, **given),
      program_identity("search", config, *unrelated, operations=operations, given=given),
    ),
  )
  return result_of(found)


def search_files(
  config: Config, names: tuple[str, ...], identity: dict[str, Any] | None = None, program: Any = None
) -> RunFiles:
  """The files that RUAS adds to the folder of a search; `names` are the names of the candidates."""

  def write(folder: epath.Path, found: one_search.SearchResult) -> None:
    from ruas_jax.plots import draw_genotype, plot_alpha, plot_losses

    alpha, genotype = named_choices(jax.device_get(found.alpha)), Genotype.from_dict(found.derived)
    content = io.BytesIO()
    np.savez(content, operations=np.array(names), **alpha)
    write_atomically(folder / ALPHA, content.getvalue())
    plot_alpha(folder / "alpha.png", alpha, names, genotype, size_values(config.network))
    draw_genotype(folder / "genotype.png", genotype)
    plot_losses(folder / "losses.png", found.metrics)

  return RunFiles(
    config=written(config),
    identity=identity,
    program=program,
    arithmetic=arithmetic(),
    derived=GENOTYPE,
    outputs=RESULTS,
    about={"operations": names},
    write=write,
  )


def result_of(found: one_search.SearchResult) -> SearchResult:
  """RUAS's result, from the engine's result of a search."""
  return SearchResult(Genotype.from_dict(found.derived), found.state, found.metrics)
