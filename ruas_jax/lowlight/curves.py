"""Warm starts of an adaptive illumination: with them alone, u is the same curve of y at every pixel.

All curves go from black to white. Their slope at black is at most 1 / epsilon; with epsilon = 1 they change nothing.

    rational       t = epsilon + (1 - epsilon) y,   u = y / t
    exponential    u = (1 - exp(-k y)) / (1 - exp(-k)),   t = y / u,   k = (1 - epsilon) / epsilon

The exponential one keeps more contrast in dark parts, and less in bright ones.
"""

import math

import jax
import jax.numpy as jnp

SMALL = 0.1
"""Below this argument, `mean_decay` is computed as a series, whose coefficients are `SERIES`."""
SERIES = tuple((-1) ** power / math.factorial(power + 1) for power in range(9))


def rational(y: jax.Array, epsilon: jax.Array) -> jax.Array:
  """t of the rational curve, for `y` in [0, 1] and `epsilon` in (0, 1] that broadcasts to it."""
  return epsilon + (1 - epsilon) * y


def exponential(y: jax.Array, epsilon: jax.Array) -> jax.Array:
  """t of the exponential curve, for `y` in [0, 1] and `epsilon` in (0, 1] that broadcasts to it."""
  k = (1 - epsilon) / epsilon
  return mean_decay(k) / mean_decay(k * jnp.maximum(y, 0))


def mean_decay(x: jax.Array) -> jax.Array:
  """`(1 - exp(-x)) / x`, the mean of `exp(-s)` over s from 0 to x >= 0."""
  large = jnp.where(x < SMALL, SMALL, x)
  series = jnp.full_like(x, SERIES[-1])
  for coefficient in reversed(SERIES[:-1]):
    series = series * x + coefficient
  return jnp.where(x < SMALL, series, (1 - jnp.exp(-large)) / large)


CURVES = {"rational": rational, "exponential": exponential}
