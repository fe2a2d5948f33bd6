"""Losses against the released code's values, direct evaluation, and their limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import shared

from ruas_jax.lowlight import losses

IMAGE = np.random.default_rng(0).uniform(size=(1, 9, 8, 3))


def test_released_terms(x64):
  golden = np.load(shared("reference/golden_losses.npz"))
  y, t, u, x = (jnp.asarray(golden[name], jnp.float64) for name in "ytux")
  smoothness, total_variation = map(jax.jit, (losses.released_smoothness, losses.released_total_variation))
  assert 2 * losses.fidelity(t, y) == pytest.approx(float(golden["fidelity_mse"]), rel=1e-6)
  assert smoothness(t, y) == pytest.approx(float(golden["smooth"]), rel=1e-6)
  assert jax.jit(losses.released_illumination_loss)(t, y) == pytest.approx(float(golden["iem_loss"]), rel=1e-6)
  assert total_variation(x) == pytest.approx(float(golden["tv"]), rel=1e-6)
  denoising = jax.jit(losses.released_denoising_loss)(x, u)
  assert denoising == pytest.approx(float(golden["nrm_loss"]), rel=1e-6)
  # The mean square vanishes in the sum, so it is tested on its own.
  own = denoising - total_variation(x)
  assert own == pytest.approx(1e-7 * np.mean((golden["x"] - golden["u"]).astype(np.float64) ** 2), rel=1e-6)


def test_relative_total_variation_is_its_definition(x64):
  """Against the sum over windows, written out pixel by pixel."""
  sigma, epsilon = 0.8, 1e-2
  image = IMAGE[0]
  height, width, channels = image.shape
  half = int(np.ceil(2.5 * sigma))
  weight = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
  window = np.outer(weight, weight) / weight.sum() ** 2
  total = 0.0
  for axis in (0, 1):
    difference = np.diff(image, axis=axis, append=np.take(image, [-1], axis=axis))
    for row in range(height):
      for column in range(width):
        for channel in range(channels):
          variation = inherent = 0.0
          for dy in range(-half, half + 1):
            for dx in range(-half, half + 1):
              if 0 <= row + dy < height and 0 <= column + dx < width:
                value = difference[row + dy, column + dx, channel]
                variation += window[dy + half, dx + half] * abs(value)
                inherent += window[dy + half, dx + half] * value
          total += variation / (abs(inherent) + epsilon)
  expected = total / image.size
  result = jax.jit(functools.partial(losses.relative_total_variation, sigma=sigma, epsilon=epsilon))(IMAGE)
  assert result == pytest.approx(expected, rel=1e-12)


def test_relative_total_variation_prefers_an_edge_to_texture():
  edge = jnp.zeros((1, 32, 32, 1)).at[:, :, 16:].set(0.5)
  texture = 0.5 * (jnp.indices((32, 32)).sum(0) % 2).astype(float)[None, :, :, None]
  loss = jax.jit(losses.relative_total_variation)
  assert loss(edge) < 0.2 * loss(texture)


@pytest.mark.parametrize("kind", ["l1", "isotropic", "squared"])
def test_total_variation(kind, x64):
  down = np.diff(IMAGE, axis=1, append=IMAGE[:, -1:])
  right = np.diff(IMAGE, axis=2, append=IMAGE[:, :, -1:])
  expected = {
    "l1": np.abs(down) + np.abs(right),
    "isotropic": np.sqrt(down**2 + right**2),
    "squared": down**2 + right**2,
  }[kind].mean()
  assert losses.total_variation(jnp.asarray(IMAGE), kind=kind) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", ["l1", "isotropic", "squared"])
def test_flat_images_have_no_gradient(kind):
  gradient = jax.grad(lambda x: losses.total_variation(x, kind=kind))(jnp.full((1, 4, 4, 3), 0.3))
  np.testing.assert_array_equal(gradient, 0.0)


def test_charbonnier_tends_to_the_kinked_losses(x64):
  @functools.partial(jax.jit, static_argnums=1)
  def all_losses(image, width):
    return jnp.stack(
      [
        losses.relative_total_variation(image, charbonnier=width),
        losses.total_variation(image, charbonnier=width),
        losses.total_variation(image, kind="isotropic", charbonnier=width),
        losses.released_smoothness(image, image, charbonnier=width),
      ]
    )

  narrow, wide, kinked = (all_losses(IMAGE, width) for width in (1e-7, 1e-1, 0.0))
  np.testing.assert_allclose(narrow, kinked, rtol=1e-3)
  assert np.all(np.abs(wide / kinked - 1) > 1e-3)
