"""Training the weights of a derived architecture, with the losses of the search (section 4.1).

Both modules learn at every step, each from its own loss: L_t moves the illumination weights, L_n the denoising weights
behind them, and no gradient of L_n reaches the illumination.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ruas_jax.bilevel import init_optimizer, split_inexact, update_parameters
from ruas_jax.data.crops import random_crops
from ruas_jax.objectives import Objectives
from ruas_jax.retinex.network import Network


class TrainState(NamedTuple):
  """Attributes:
  step: `[]` int32, updates done.
  weights: `{"illumination", "denoising"}` of the derived network.
  optimizer_state: by module.
  """

  step: jax.Array
  weights: dict[str, Any]
  optimizer_state: dict[str, Any]


Optimizers = dict[str, optax.GradientTransformation]


def init_train_state(network: Network, optimizers: Optimizers, key: jax.Array) -> TrainState:
  """Fresh weights from `key`."""
  weights = network.init_weights(key)
  states = {name: init_optimizer(optimizers[name], weights[name]) for name in network._fields}
  return TrainState(jnp.zeros((), jnp.int32), weights, states)


def make_train_step(
  objectives: Objectives, optimizers: Optimizers, *, crop: int, vary_exposure: float = 0.0
) -> Callable:
  """`step(state, batch, key) -> (state, metrics)`, to be jitted once by the caller.

  `batch` is whole images, `{"image": uint8 [B, H, W, 3], "size": int32 [B, 2]}`; crops of `crop` pixels a side are
  drawn from `key` and the state's step, some with another exposure (`random_crops`). Metrics are the two losses before
  the update.
  """

  def losses(weights, images):
    loss_t, lit = objectives.illumination(weights["illumination"], None, images)
    loss_n = objectives.denoising(weights["denoising"], None, lax.stop_gradient(lit))
    return loss_t + loss_n, {"illumination_train_loss": loss_t, "denoising_train_loss": loss_n}

  def step(state: TrainState, batch: dict[str, jax.Array], key: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
    own_key = jax.random.fold_in(key, state.step)
    images = random_crops(batch, own_key, crop=crop, vary_exposure=vary_exposure)
    floating, merge = split_inexact(state.weights)
    gradient, metrics = jax.grad(lambda floating: losses(merge(floating), images), has_aux=True)(floating)

    def own_loss(name, own):
      return losses(state.weights | {name: own}, images)[1][f"{name}_train_loss"]

    weights, states = {}, {}
    for name, optimizer in optimizers.items():
      weights[name], states[name] = update_parameters(
        optimizer,
        gradient[name],
        state.optimizer_state[name],
        state.weights[name],
        value=metrics[f"{name}_train_loss"],
        value_fn=functools.partial(own_loss, name),
      )
    return TrainState(state.step + 1, weights, states), metrics

  return step
