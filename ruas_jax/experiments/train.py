"""Training a derived architecture: takes data and a genotype, returns a model."""

import contextlib
import dataclasses
import os
from typing import NamedTuple

import jax
import numpy as np
import optax

from ruas_jax.config import Config
from ruas_jax.data.sources import ImageSource
from ruas_jax.engine.device_loop import DeviceLoop
from ruas_jax.engine.feed import Reading, open_feed
from ruas_jax.engine.loop import iterate
from ruas_jax.engine.mesh import Layout
from ruas_jax.engine.records import Record
from ruas_jax.engine.run_folder import open_run_folder
from ruas_jax.engine.run_options import RunOptions
from ruas_jax.engine.seeding import seeded
from ruas_jax.experiments.setting import (
  RESULTS,
  arithmetic,
  as_elements,
  identify,
  open_images,
  program_identity,
  sampler,
)
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.objectives import DenoisingLoss, IlluminationLoss, make_objectives
from ruas_jax.lowlight.operations import CANDIDATES, Operation, operation_names
from ruas_jax.lowlight.space import sized
from ruas_jax.lowlight.training import init_train_state, make_train_step
from ruas_jax.optimizers import make_optimizer
from ruas_jax.photos.model import Model, save_model


class TrainResult(NamedTuple):
  """Attributes:
  model: the trained model.
  metrics: one record for each step.
  """

  model: Model
  metrics: list[Record]


def train(
  config: Config = Config(),
  genotype: Genotype = Genotype.named("published"),
  *,
  workdir: str | os.PathLike | None = None,
  run: RunOptions = RunOptions(),
  images: ImageSource | None = None,
  operations: tuple[Operation, ...] = CANDIDATES,
  illumination_loss: IlluminationLoss | None = None,
  denoising_loss: DenoisingLoss | None = None,
  optimizer: optax.GradientTransformation | None = None,
) -> TrainResult:
  """Trains the network of `genotype` on low-light images only.

  Args:
    config: the experiment; `config.network.variant` becomes the model's variant.
    genotype: the architecture. If it has sizes, they replace the stages and channels of `config.network`.
    workdir: folder for the checkpoint, `metrics.jsonl`, `config.json`, `losses.png`, and `snapshots` as in `search`;
      any path that `etils.epath` understands. None: nothing is written.
    run: as in `search`.
    images: a source that replaces that of `config.data`.
    operations: the candidate operations that the genotype names.
    illumination_loss, denoising_loss: as in `search`.
    optimizer: optimiser of both modules, replaces those of the configuration.
  Raises:
    UserError: the data, the genotype, the configuration, the mesh or the folder do not fit together, or a loss is not
      finite.
    Preempted: SIGTERM stopped the training, which is saved in `workdir`.
  """
  config = dataclasses.replace(config, network=sized(config.network, genotype))
  options, data = config.training, config.data
  source, _ = open_images(config, images, None)
  layout = Layout(run.mesh, batch_size=data.batch_size)
  # The identity ignores the search options. It includes the steps only if the learning rates depend on them.
  ignored = ("search", "data.val", *["training.steps"] * (not options.decay))
  losses = {"illumination_loss": illumination_loss, "denoising_loss": denoising_loss}
  about = {"operations": operation_names(operations), "genotype": str(genotype), "optimizer": optimizer}
  identity = identify("train", config, *ignored, images={"train": source}, **about, **losses)
  program = program_identity(
    *("train", config, "search", *ignored[2:]), operations=operations, given=losses | {"optimizer": optimizer},
    genotype=str(genotype),
  )  # fmt: skip
  reading = Reading(as_elements(config, source), (data.batch_size,), seed=config.seed)
  feed = open_feed([reading], placement=data.placement, rows=layout.rows)
  network = build_network(config.network, genotype, operations)
  objectives = make_objectives(network, config.loss, **losses)
  decay_steps = options.steps if options.decay else None
  optimizers = {
    "illumination": optimizer or make_optimizer(options.illumination_optimizer, decay_steps=decay_steps),
    "denoising": optimizer or make_optimizer(options.denoising_optimizer, decay_steps=decay_steps),
  }
  start = seeded(lambda key: init_train_state(network, optimizers, key))
  state, _, step_key = jax.jit(start)(np.int32(config.seed))
  step = make_train_step(objectives, optimizers, sampler(config))
  opened = open_run_folder(
    *(workdir, identity, run),
    steps=options.steps,
    config=dataclasses.asdict(config),
    outputs=RESULTS,
    arithmetic=arithmetic(),
  )

  with contextlib.closing(feed), opened as folder:
    loop = DeviceLoop(step, state, feed, step_key, layout=layout, largest_loss=run.largest_loss, identity=program)
    outcome = iterate(loop, steps=options.steps, description="train", run_folder=folder)
    weights = jax.device_put(outcome.state.weights)
    model = Model(weights, genotype, config.network, operations)
    if folder.path:
      from ruas_jax.plots import plot_losses

      plot_losses(folder.path / "losses.png", outcome.records[0])
      save_model(folder.path, model, dataclasses.asdict(config))
  return TrainResult(model, outcome.records[0])
