"""Training a derived architecture: data and genotype in, model out."""

import contextlib
import dataclasses
import os
from typing import NamedTuple

import jax
import numpy as np
import optax

from ruas_jax.config import Config
from ruas_jax.data.feed import Reading, open_feed
from ruas_jax.data.sources import ImageSource, open_source
from ruas_jax.inference.model import Model, save_model
from ruas_jax.objectives import DenoisingLoss, IlluminationLoss, make_objectives
from ruas_jax.optimizers import make_optimizer
from ruas_jax.retinex.network import build_network
from ruas_jax.runner.device_loop import DeviceLoop
from ruas_jax.runner.loop import iterate
from ruas_jax.runner.options import RunOptions
from ruas_jax.runner.records import Record
from ruas_jax.runner.setting import seeded
from ruas_jax.runner.workdir import identify, open_workdir
from ruas_jax.runtime.mesh import Layout
from ruas_jax.search_space.genotype import Genotype
from ruas_jax.search_space.operations import CANDIDATES, Operation, operation_names
from ruas_jax.training import init_train_state, make_train_step


class TrainResult(NamedTuple):
  """Attributes:
  model: the trained model.
  metrics: a record for each step.
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
  """Trains the network of `genotype` on low-light images alone.

  Args:
    config: the experiment; `config.network.variant` is the model's.
    genotype: the architecture.
    workdir: gets the checkpoint, `metrics.jsonl`, `config.json`, `losses.png`, and `snapshots` as in `search`; any path
      that `etils.epath` understands. None: nothing is written.
    run: as in `search`.
    images: a source in place of the one that `config.data` names.
    operations: the candidates that the genotype's names refer to.
    illumination_loss, denoising_loss: as in `search`.
    optimizer: of both modules, in place of the configured ones.
  Raises:
    UserError: the data, the genotype, the configuration, the mesh or the workdir do not serve, or a loss is not finite.
    Preempted: SIGTERM came, and the training is saved in `workdir`.
  """
  options, data = config.training, config.data
  source = images if images is not None else open_source(data.train, tfds_dir=data.tfds_dir)
  layout = Layout(run.mesh, batch_size=data.batch_size)
  # The search's options do not matter; the steps do where the rates follow them.
  ignored = ("search", "data.val", *["training.steps"] * (not options.decay))
  losses = {"illumination_loss": illumination_loss, "denoising_loss": denoising_loss}
  about = {"operations": operation_names(operations), "genotype": str(genotype), "optimizer": optimizer}
  identity = identify("train", config, *ignored, images={"train": source}, **about, **losses)
  reading = Reading(source, (data.batch_size,), seed=config.seed)
  feed = open_feed([reading], crop=data.crop, placement=data.placement, rows=layout.rows)
  network = build_network(config.network, genotype, operations)
  objectives = make_objectives(network, config.loss, **losses)
  decay_steps = options.steps if options.decay else None
  optimizers = {
    "illumination": optimizer or make_optimizer(options.illumination_optimizer, decay_steps=decay_steps),
    "denoising": optimizer or make_optimizer(options.denoising_optimizer, decay_steps=decay_steps),
  }
  start = seeded(lambda key: init_train_state(network, optimizers, key))
  state, _, step_key = jax.jit(start)(np.int32(config.seed))
  step = make_train_step(objectives, optimizers, crop=data.crop, vary_exposure=data.vary_exposure)

  with contextlib.closing(feed), open_workdir(workdir, config, identity, run, steps=options.steps) as place:
    loop = DeviceLoop(step, state, feed, step_key, layout=layout, largest_loss=run.largest_loss)
    outcome = iterate(loop, steps=options.steps, description="train", workdir=place)
    weights = jax.device_put(outcome.state.weights)
    model = Model(weights, genotype, config.network, operations)
    if place.folder:
      from ruas_jax.plots import plot_losses  # matplotlib, for a work directory alone

      plot_losses(place.folder / "losses.png", outcome.records[0])
      save_model(place.folder, model, dataclasses.asdict(config))
  return TrainResult(model, outcome.records[0])
