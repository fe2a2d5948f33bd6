"""Training a derived architecture: data and genotype in, model out."""

import contextlib
import dataclasses
import os
from typing import NamedTuple

import jax
import optax

from ruas_jax.config import Config
from ruas_jax.data.feed import Reading, open_feed
from ruas_jax.data.sources import ImageSource, open_source
from ruas_jax.inference.model import Model, save_model
from ruas_jax.objectives import DenoisingLoss, IlluminationLoss, make_objectives
from ruas_jax.optimizers import make_optimizer
from ruas_jax.plots import plot_losses
from ruas_jax.retinex.network import build_network
from ruas_jax.runner.loop import Record, iterate, prepare_workdir
from ruas_jax.search_space.genotype import Genotype
from ruas_jax.search_space.operations import CANDIDATES, Operation
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
  overwrite: bool = False,
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
    workdir: gets the checkpoint, `metrics.jsonl`, `config.json` and `losses.png`; any path that `etils.epath`
      understands. None: nothing is written.
    overwrite: replace a run that is already in `workdir`.
    images: a source in place of the one that `config.data` names.
    operations: the candidates that the genotype's names refer to.
    illumination_loss, denoising_loss: as in `search`.
    optimizer: of both modules, in place of the configured ones.
  Raises:
    UserError: the data, the genotype, the configuration or the workdir do not serve, or a loss is not finite.
  """
  options, data = config.training, config.data
  source = images if images is not None else open_source(data.train, tfds_dir=data.tfds_dir)
  feed = open_feed([Reading(source, (data.batch_size,), seed=config.seed)], crop=data.crop, placement=data.placement)
  network = build_network(config.network, genotype, operations)
  objectives = make_objectives(network, config.loss, illumination_loss=illumination_loss, denoising_loss=denoising_loss)
  decay_steps = options.steps if options.decay else None
  optimizers = {
    "illumination": optimizer or make_optimizer(options.illumination_optimizer, decay_steps=decay_steps),
    "denoising": optimizer or make_optimizer(options.denoising_optimizer, decay_steps=decay_steps),
  }
  init_key, step_key = jax.random.split(jax.random.key(config.seed))
  state = jax.jit(lambda key: init_train_state(network, optimizers, key))(init_key)
  step = make_train_step(objectives, optimizers, crop=data.crop, vary_exposure=data.vary_exposure)

  folder = prepare_workdir(workdir, config, overwrite=overwrite)
  with contextlib.closing(feed):
    state, metrics = iterate(step, state, feed, step_key, steps=options.steps, description="train", folder=folder)
  model = Model(state.weights, genotype, config.network, operations)
  if folder:
    plot_losses(folder / "losses.png", metrics)
    save_model(folder, model, dataclasses.asdict(config))
  return TrainResult(model, metrics)
