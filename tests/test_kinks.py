"""The piecewise-linear functions: their values, their derivatives at the corner, their smooth forms and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ruas_jax.lowlight import kinks

pytestmark = pytest.mark.usefixtures("x64_module")

POINTS = np.array([-2.0, -0.3, -1e-3, 0.0, 1e-3, 0.3, 0.5, 1.0, 2.0])

# name: (our function of x and the smoothing, its definition, its corners)
KINKS = {
  "absolute": (kinks.absolute, np.abs, (0.0,)),
  "leaky_relu": (lambda x, s: kinks.leaky_relu(0.05, s)(x), lambda x: np.maximum(x, 0.05 * x), (0.0,)),
  "clip": (lambda x, s: kinks.clip(x, 0.0, 1.0, s), lambda x: np.clip(x, 0, 1), (0.0, 1.0)),
  "clip_above_floor": (lambda x, s: kinks.clip(x, 1e-3, 1.0, s), lambda x: np.clip(x, 1e-3, 1), (1e-3, 1.0)),
  "maximum": (lambda x, s: kinks.maximum(x, jnp.full_like(x, 0.3), s), lambda x: np.maximum(x, 0.3), (0.3,)),
  "maximum_second": (lambda x, s: kinks.maximum(jnp.full_like(x, 0.3), x, s), lambda x: np.maximum(x, 0.3), (0.3,)),
}


@pytest.mark.parametrize("name", KINKS)
def test_values(name):
  ours, definition, _ = KINKS[name]
  np.testing.assert_allclose(ours(POINTS, 0.0), definition(POINTS), rtol=0, atol=1e-16)


@pytest.mark.parametrize("name", KINKS)
def test_smooth_form_tends_to_the_kink(name):
  """The error at a corner is proportional to the width, and away from it far below the width."""
  ours, definition, corners = KINKS[name]
  away = POINTS[np.all([np.abs(POINTS - corner) > 0.1 for corner in corners], axis=0)]
  for width in (1e-2, 1e-3, 1e-4):
    errors = np.abs(ours(POINTS, width) - definition(POINTS))
    assert 0 < np.max(errors) <= 1.01 * width
    assert np.max(np.abs(ours(away, width) - definition(away))) <= width / 50


@pytest.mark.parametrize("name", KINKS)
def test_smooth_form_is_smooth(name):
  """First and second derivatives agree with central differences, at the corners too."""
  ours, _, corners = KINKS[name]
  step = 1e-6
  points = np.concatenate([POINTS, corners])
  value = lambda x: ours(x, 0.1)
  slope, curvature = jax.jit(jax.vmap(jax.grad(value))), jax.jit(jax.vmap(jax.grad(jax.grad(value))))
  np.testing.assert_allclose(
    slope(points), (value(points + step) - value(points - step)) / (2 * step), rtol=1e-6, atol=1e-8
  )
  difference = (slope(points + step) - slope(points - step)) / (2 * step)
  np.testing.assert_allclose(curvature(points), difference, rtol=1e-6, atol=1e-6)


def test_derivatives_at_the_corner():
  slope = lambda function, x: float(jax.grad(function)(x))
  assert slope(kinks.absolute, 0.0) == 0.0  # the middle of its slopes, unlike jnp.abs
  assert slope(jnp.abs, 0.0) == 1.0
  assert (slope(kinks.absolute, -3.0), slope(kinks.absolute, 3.0)) == (-1.0, 1.0)
  assert slope(lambda x: kinks.absolute(x, 0.1), 0.0) == 0.0
  assert slope(kinks.leaky_relu(0.05), 0.0) == 1.0
  assert slope(kinks.leaky_relu(0.05, 0.1), 0.0) == pytest.approx((1 + 0.05) / 2)
  first, second = jax.grad(kinks.maximum, argnums=(0, 1))(0.5, 0.5)
  assert (first, second) == (0.5, 0.5)  # ties share
  first, second = jax.grad(lambda a, b: kinks.maximum(a, b, 0.1), argnums=(0, 1))(0.5, 0.5)
  assert (first, second) == (pytest.approx(0.5), pytest.approx(0.5))
  assert slope(lambda x: kinks.clip(x, 0.0, 1.0), 2.0) == 0.0


def test_second_derivatives_at_the_corner_are_finite():
  for function in (kinks.absolute, lambda x: kinks.absolute(x, 0.1), kinks.leaky_relu(0.05)):
    assert np.isfinite(jax.grad(jax.grad(function))(0.0))


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_smooth_clip_stays_inside(dtype):
  """Whatever the rounding: `u = clip(y / t)` sees arguments up to 1 / floor."""
  x = jnp.concatenate([jnp.linspace(-1, 2, 301), jnp.linspace(2, 1000, 301)]).astype(dtype)
  for low, width in ((0.0, 0.05), (1e-3, 0.05), (1e-3, 1e-4)):
    clipped = kinks.clip(x, low, 1.0, width)
    assert np.all(clipped >= dtype(low)) and np.all(clipped <= 1.0)
    np.testing.assert_array_less(0.9999, clipped[x > 2])


def test_smooth_clip_does_not_lift_dark_values():
  assert np.all(kinks.clip(np.array([-0.02, 0.0, 1e-3]), 1e-3, 1.0, 0.05) < 2e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.05])
def test_float32_is_kept_and_large_arguments_stay_finite(smoothing):
  x = jnp.array([-1e4, 0.0, 1e4], jnp.float32)
  for ours, _, _ in KINKS.values():
    value, slope = ours(x, smoothing), jax.vmap(jax.grad(lambda x, f=ours: f(x, smoothing)))(x)
    assert value.dtype == slope.dtype == jnp.float32
    assert np.all(np.isfinite(value)) and np.all(np.isfinite(slope))
