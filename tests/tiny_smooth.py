"""The cooperative illumination player (eq. 5) of a tiny supernet with every kink rounded, for studies of gradients."""

import jax
import jax.numpy as jnp
import numpy as np
from tiny_problem import FEW

from ruas_jax.bilevel.testing.testbed import ReferenceProblem
from ruas_jax.lowlight.loss_options import LossOptions
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.objectives import make_objectives
from ruas_jax.lowlight.options import DenoisingOptions, IlluminationOptions, NetworkOptions
from ruas_jax.lowlight.players import make_players
from ruas_jax.lowlight.search_options import RUASSearchOptions

SMOOTH = NetworkOptions(
  illumination=IlluminationOptions(stages=1), denoising=DenoisingOptions(stages=1), smoothing=0.05
)


def smooth_cell(*, side: int = 6, beta: float = 0.7) -> ReferenceProblem:
  """On images of noise, away from uniform alpha; 21 numbers in alpha. Call it in float64."""
  network = build_network(SMOOTH, operations=FEW)
  objectives = make_objectives(network, LossOptions(eta_t=0.1, rtv_sigma=1.0))
  rng = np.random.default_rng(0)
  weights = jax.jit(lambda key: network.init_weights(key, jnp.float64))(jax.random.key(0))
  alpha = {name: rng.normal(size=leaf.shape, scale=0.5) for name, leaf in network.init_alpha().items()}
  train, validation = rng.uniform(0.02, 0.5, size=(2, 1, side, side, 3))
  player = make_players(RUASSearchOptions(), lambda hyper: (objectives, beta))[0]
  return ReferenceProblem(
    "RUAS cell",
    player.bilevel_problem(weights, alpha, {}),
    player.pick(weights),
    player.pick(alpha),
    train[None],
    validation,
    {"sgd": (1,)},
  )
