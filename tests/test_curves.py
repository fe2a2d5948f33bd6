"""The curves of an adaptive illumination against their closed forms, in the image's values and in linear light."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ruas_jax.errors import UserError
from ruas_jax.lowlight.curves import CURVES, SMALL, exponential, mean_decay, rational
from ruas_jax.lowlight.genotype import PUBLISHED
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.options import DenoisingOptions, IlluminationOptions, NetworkOptions
from ruas_jax.photos.model import Model, enhance
from ruas_jax.srgb import from_light, to_light

pytestmark = pytest.mark.usefixtures("x64_module")

OPTIONS = IlluminationOptions(
  stages=2, region=1, warm_start="fixed", adaptive=True, share_weights=True, curve="exponential", light="linear"
)
RNG = np.random.default_rng(0)


def test_the_mean_decay_and_its_derivative_are_exact_on_both_sides_of_the_series():
  x = np.array([0.0, 1e-9, 0.01, SMALL * (1 - 1e-9), SMALL, 0.3, 4.0, 999.0])
  nodes, weights = np.polynomial.legendre.leggauss(40)
  shares = (nodes + 1) / 2  # the mean of exp(-s x) over s from 0 to 1, in pieces that a polynomial follows
  pieces = np.concatenate([(shares + piece) / 200 for piece in range(200)])
  weights = np.tile(weights, 200) / 400
  decay = np.exp(-np.outer(x, pieces))
  np.testing.assert_allclose(mean_decay(jnp.asarray(x)), decay @ weights, rtol=1e-12)
  slopes = jax.vmap(jax.grad(mean_decay))(jnp.asarray(x))
  np.testing.assert_allclose(slopes, -decay @ (weights * pieces), rtol=2e-11)


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_goes_from_black_to_white_and_starts_with_its_slope(name):
  y = jnp.linspace(0, 1, 101)
  for epsilon in (0.01, 0.3, 0.9):
    u = y / CURVES[name](y, jnp.array(epsilon))
    assert u[0] == 0 and u[-1] == pytest.approx(1)
    assert jnp.diff(u).min() > -1e-15  # white, to rounding, from some y on
    slope = 1 / float(CURVES[name](jnp.array(1e-12), jnp.array(epsilon)))
    assert 1 < slope <= 1 / epsilon + 1e-9
  np.testing.assert_array_equal(CURVES[name](y, jnp.array(1.0)), 1)


def test_the_exponential_curve_has_its_closed_form():
  y, epsilon = jnp.linspace(0.001, 1, 50), jnp.array(0.04)
  k = 0.96 / 0.04
  np.testing.assert_allclose(y / exponential(y, epsilon), (1 - np.exp(-k * y)) / (1 - np.exp(-k)), rtol=1e-12)
  np.testing.assert_allclose(rational(y, epsilon), 0.04 + 0.96 * y, rtol=1e-12)


def test_without_a_correction_the_module_is_the_curve_in_linear_light():
  module = build_network(NetworkOptions(OPTIONS), PUBLISHED).illumination
  weights = module.init(jax.random.key(0), jnp.float64)
  weights["fusion"] = jax.tree.map(jnp.zeros_like, weights["fusion"])
  y = RNG.uniform(0.01, 0.2, (1, 6, 5, 3))
  output = jax.jit(module)(weights, None, y)
  mean, target = to_light(y.mean()), to_light(np.array(0.45))
  epsilon = mean / (1 - mean) * (1 - target) / target
  k = (1 - epsilon) / epsilon
  expected = from_light((1 - np.exp(-k * to_light(y))) / (1 - np.exp(-k)))
  np.testing.assert_allclose(output.result, expected, rtol=1e-9)
  np.testing.assert_allclose(to_light(y), to_light(output.illumination) * to_light(output.result), rtol=1e-9)


def test_a_bright_image_stays_as_it_is():
  """Whatever the weights."""
  model = Model(None, PUBLISHED, NetworkOptions(OPTIONS, DenoisingOptions(stages=1, guided=True)))
  weights = jax.jit(model.network.init_weights, static_argnums=1)(jax.random.key(0), jnp.float64)
  wild = jax.tree.map(lambda leaf: leaf + jnp.asarray(RNG.normal(size=leaf.shape)), weights)
  wild["illumination"]["level"] = weights["illumination"]["level"]
  image = RNG.uniform(0.4, 1, (12, 12, 3))
  np.testing.assert_allclose(enhance(dataclasses.replace(model, weights=wild), image), image, atol=1e-12)


@pytest.mark.parametrize("convert", [to_light, from_light])
def test_the_curve_of_srgb_is_the_same_for_numpy_and_jax(convert):
  values = np.linspace(0, 1, 300)
  np.testing.assert_allclose(jax.jit(convert)(values), convert(values), rtol=1e-12)
  np.testing.assert_allclose(from_light(to_light(values)), values, atol=1e-7)  # the standard's numbers are rounded
  assert convert(values.astype(np.float32)).dtype == convert(jnp.ones(2, jnp.float32)).dtype == np.float32
  slopes = jax.vmap(jax.grad(convert))(jnp.asarray(values))
  assert np.isfinite(slopes).all() and slopes.min() > 0


def test_a_curve_is_of_an_adaptive_module():
  with pytest.raises(UserError, match="curve` = 'exponential' needs `network"):
    IlluminationOptions(curve="exponential")
