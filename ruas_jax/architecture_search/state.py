"""The search's state: one immutable pytree, everything that makes the run what it is besides its seed and its data."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ruas_jax.architecture_search.strategies import Player
from ruas_jax.bilevel import init_optimizer
from ruas_jax.retinex.network import Network


class SearchState(NamedTuple):
  """Attributes:
  step: `[]` int32, rounds done.
  weights: `{"illumination", "denoising"}` of the supernet.
  alpha: `{"illumination": [E, O], "denoising": [E, O]}` logits.
  weight_state, alpha_state: optimiser states, by player.
  """

  step: jax.Array
  weights: dict[str, Any]
  alpha: dict[str, jax.Array]
  weight_state: dict[str, Any]
  alpha_state: dict[str, Any]


def init_state(
  network: Network,
  players: tuple[Player, ...],
  weight_optimizer: optax.GradientTransformation,
  alpha_optimizer: optax.GradientTransformation,
  key: jax.Array,
) -> SearchState:
  """Fresh weights from `key`, uniform alpha, in jax's default float type."""
  dtype = jnp.result_type(float)
  weights, alpha = network.init_weights(key, dtype), network.init_alpha(dtype)
  return SearchState(
    step=jnp.zeros((), jnp.int32),
    weights=weights,
    alpha=alpha,
    weight_state={player.name: init_optimizer(weight_optimizer, player.pick(weights)) for player in players},
    alpha_state={player.name: init_optimizer(alpha_optimizer, player.pick(alpha)) for player in players},
  )
