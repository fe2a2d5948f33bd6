"""The hypergradient of the real modules against central differences: tiny, in float64, with every kink rounded."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from stepping import players_of

from ruas_jax.bilevel import make_estimator
from ruas_jax.lowlight.loss_options import LossOptions
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.objectives import make_objectives
from ruas_jax.lowlight.options import DenoisingOptions, IlluminationOptions, NetworkOptions
from ruas_jax.lowlight.search_options import RUASSearchOptions

pytestmark = pytest.mark.usefixtures("x64_module")

MOMENTUM, BETA = 0.9, 0.7
SMOOTH = NetworkOptions(
  illumination=IlluminationOptions(stages=2), denoising=DenoisingOptions(stages=2), smoothing=0.05
)


@pytest.fixture(scope="module")
def smooth_problem(x64_module):
  """The cooperative illumination player of a smooth supernet, and where it stands."""
  network = build_network(SMOOTH)
  objectives = make_objectives(network, LossOptions(eta_t=0.1, rtv_sigma=1.0))
  rng = np.random.default_rng(0)
  random_like = lambda tree, scale: jax.tree.map(lambda leaf: scale * rng.normal(size=leaf.shape), tree)
  weights = jax.jit(network.init_weights, static_argnums=1)(jax.random.key(0), jnp.float64)
  trace = random_like(weights["illumination"], 0.1)
  alpha = random_like(network.init_alpha(), 0.5)
  train, validation = rng.uniform(0.02, 0.5, size=(2, 1, 8, 8, 3))
  return objectives, weights, trace, alpha, train, validation


def test_hypergradient_against_central_differences_on_a_smooth_network(smooth_problem):
  """Equation 5 through one momentum step, on the illumination module and, behind it, the noise removal module."""
  objectives, weights, trace, alpha, train, validation = smooth_problem
  rate = 0.1

  def after_one_step(alpha_t):  # eq. 5 written out
    shares_t, shares_n = jax.nn.softmax(alpha_t), jax.nn.softmax(alpha["denoising"])
    gradient = jax.grad(lambda w: objectives.illumination(w, shares_t, train)[0])(weights["illumination"])
    moved = jax.tree.map(lambda w, g, m: w - rate * (g + MOMENTUM * m), weights["illumination"], gradient, trace)
    loss, u = objectives.illumination(moved, shares_t, validation)
    return loss + BETA * objectives.denoising(weights["denoising"], shares_n, u)

  def estimate(alpha_t):
    player = players_of(RUASSearchOptions(), objectives, BETA)[0]
    optimizer = optax.sgd(rate, momentum=MOMENTUM)
    own = player.pick(weights)
    state = optax.tree_utils.tree_set(optimizer.init(own), trace={"illumination": trace})
    estimator = make_estimator("unrolled", inner=optimizer)
    problem = player.bilevel_problem(weights, alpha, {})
    return estimator(problem, own, {"illumination": alpha_t}, state, train[None], validation)

  out = jax.jit(estimate)(alpha["illumination"])
  gradient = np.asarray(out.gradient["illumination"])
  value = jax.jit(after_one_step)
  assert out.outer_loss == pytest.approx(float(value(alpha["illumination"])), rel=1e-12)
  rng = np.random.default_rng(1)
  for _ in range(3):
    direction = rng.normal(size=gradient.shape)
    direction /= np.linalg.norm(direction)

    def relative_error(step, direction=direction):
      ends = [float(value(alpha["illumination"] + sign * step * direction)) for sign in (1, -1)]
      return (ends[0] - ends[1]) / (2 * step) / np.sum(gradient * direction) - 1

    large, small = relative_error(4e-2), relative_error(1e-2)
    assert large / small == pytest.approx(16, rel=0.05), "the error of a central difference is quadratic in its step"
    # the quadratic part of the error taken off (Richardson)
    assert abs((16 * small - large) / 15) < 1e-6
    assert abs(relative_error(1e-4)) < 1e-7
