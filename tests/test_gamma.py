"""Gamma variables: their distribution, and their derivatives against those of the quantile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from ruas_jax.nas.gamma import gamma, gamma_slope

pytestmark = pytest.mark.usefixtures("x64_module")

KEY = jax.random.key(3)
PARAMETERS = np.array([1.0, 1.01, 1.3, 2.0, 4.0, 12.0, 300.0])
SHARES = np.array([1e-6, 0.05, 0.3, 0.5, 0.9, 0.9999])  # of the distribution below the draw
C = np.repeat(PARAMETERS, len(SHARES))
X = scipy.special.gammaincinv(C, np.tile(SHARES, len(PARAMETERS)))


def quantile(c):
  return scipy.special.gammaincinv(c, np.tile(SHARES, len(PARAMETERS)))


def test_draws_have_their_distribution():
  """By the largest difference of the distribution functions (Kolmogorov and Smirnov)."""
  count = 100_000
  for c in (1.0, 1.3, 4.0):
    x = np.sort(gamma(jnp.full(count, c), KEY))
    distance = np.abs(scipy.stats.gamma(c).cdf(x) - (np.arange(count) + 0.5) / count).max()
    assert distance < 1.95 / np.sqrt(count)  # larger for one key in a thousand


def test_a_parameter_that_is_not_finite_gives_a_value_that_is_not_finite():
  np.testing.assert_array_equal(np.isfinite(gamma(jnp.array([np.nan, 1, np.inf]), KEY)), [False, True, False])


def test_the_slope_is_that_of_the_quantile():
  """By central differences of fourth order."""
  step = 1e-3 * np.minimum(C, 10)
  near, far = (quantile(C + k * step) - quantile(C - k * step) for k in (1, 2))
  np.testing.assert_allclose(jax.jit(gamma_slope)(C, X), (8 * near - far) / (12 * step), rtol=1e-8)


def test_the_slope_is_as_exact_in_float32():
  exact = jax.jit(gamma_slope)(C, X)
  short = jax.jit(gamma_slope)(C.astype("float32"), X.astype("float32"))
  assert short.dtype == "float32"
  moved = np.abs(jax.vmap(jax.grad(gamma_slope, 1))(C, X)) * X  # a rounded draw has another slope
  np.testing.assert_array_less(np.abs(short - exact), 1e-5 * (np.abs(exact) + moved))


def test_second_derivatives_are_those_of_the_quantile():
  """In reverse mode over reverse mode, at the draw itself."""
  first = jax.vmap(jax.grad(lambda c: gamma(c[None], KEY)[0]))
  c = jnp.asarray(PARAMETERS[1:])
  x = jax.vmap(lambda c: gamma(c[None], KEY)[0])(c)
  share, step = scipy.special.gammainc(c, x), 1e-3 * np.asarray(c)
  at = lambda k: scipy.special.gammaincinv(c + k * step, share)
  np.testing.assert_allclose(first(c), (at(1) - at(-1)) / (2 * step), rtol=1e-5)
  second = jax.vmap(jax.grad(lambda c: first(c[None])[0]))(c)
  np.testing.assert_allclose(second, (at(1) - 2 * at(0) + at(-1)) / step**2, rtol=1e-3, atol=1e-5)
