"""Training the weights of a derived architecture with the losses of the search (section 4.1).

Both modules are updated at every step, each with its loss: L_t updates the illumination weights, L_n the denoising
weights. L_n has no gradient with respect to the illumination.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ruas_jax.bilevel import init_optimizer, split_inexact, update_parameters
from ruas_jax.engine.metrics import Metrics, StepMetrics
from ruas_jax.lowlight.network import Network
from ruas_jax.lowlight.objectives import Objectives


class TrainState(NamedTuple):
  """Attributes:
  step: `[]` int32, number of updates done.
  weights: `{"illumination", "denoising"}` of the derived network.
  optimizer_state: optimiser state by module.
  """

  step: jax.Array
  weights: dict[str, Any]
  optimizer_state: dict[str, Any]


Optimizers = dict[str, optax.GradientTransformation]


def init_train_state(network: Network, optimizers: Optimizers, key: jax.Array) -> TrainState:
  """A state with random weights from `key`."""
  weights = network.init_weights(key)
  states = {name: init_optimizer(optimizers[name], weights[name]) for name in network._fields}
  return TrainState(jnp.zeros((), jnp.int32), weights, states)


def make_train_step(
  objectives: Objectives, optimizers: Optimizers, sample: Callable[[Any, jax.Array], jax.Array]
) -> Callable:
  """`step(state, raw, key) -> (state, metrics)`, not jitted.

  `sample(raw, key)` returns the images of a step, float `[B, H, W, 3]` in [0, 1]. Its key is derived from `key` and the
  state's step. The metrics are the loss `train` of each module before the update.
  """

  def losses(weights, images):
    loss_t, illuminated = objectives.illumination(weights["illumination"], None, images)
    loss_n = objectives.denoising(weights["denoising"], None, lax.stop_gradient(illuminated))
    return loss_t + loss_n, {"illumination": loss_t, "denoising": loss_n}

  def step(state: TrainState, raw: Any, key: jax.Array) -> tuple[TrainState, Metrics]:
    images = sample(raw, jax.random.fold_in(key, state.step))
    floating, merge = split_inexact(state.weights)
    gradient, found = jax.grad(lambda floating: losses(merge(floating), images), has_aux=True)(floating)

    def loss_of(name, weights):
      return losses(state.weights | {name: weights}, images)[1][name]

    weights, states = {}, {}
    for name, optimizer in optimizers.items():
      weights[name], states[name] = update_parameters(
        optimizer,
        gradient[name],
        state.optimizer_state[name],
        state.weights[name],
        value=found[name],
        value_fn=functools.partial(loss_of, name),
      )
    metrics = {name: StepMetrics({"train": loss}) for name, loss in found.items()}
    return TrainState(state.step + 1, weights, states), metrics

  return step
