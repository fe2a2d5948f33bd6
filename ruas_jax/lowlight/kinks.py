"""The piecewise-linear functions of the model and the losses, each with its smooth form.

`smoothing` is the width of the rounded corner in units of the argument; 0 keeps the kink, whose derivative is then the
almost-everywhere one. With every kink rounded the whole problem is infinitely differentiable, which gradient studies
need.
"""

import jax
import jax.numpy as jnp
from jax import lax


def absolute(x: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """`|x|`, or Charbonnier's `sqrt(x^2 + s^2)`; the derivative at zero is zero (`jnp.abs` has one)."""
  return jnp.sqrt(jnp.square(x) + smoothing**2) if smoothing else x * lax.stop_gradient(jnp.sign(x))


def _ramp(x, smoothing):
  """`max(x, 0)` with its corner rounded."""
  return smoothing * jax.nn.softplus(x / smoothing)


def leaky_relu(x: jax.Array, slope: float, smoothing: float = 0.0) -> jax.Array:
  """`max(x, slope * x)`."""
  return slope * x + (1 - slope) * _ramp(x, smoothing) if smoothing else jnp.where(x >= 0, x, slope * x)


def clip(x: jax.Array, low: float, high: float, smoothing: float = 0.0) -> jax.Array:
  """`min(max(x, low), high)`; the smooth form stays between them too."""
  if not smoothing:
    return lax.clamp(jnp.asarray(low, x.dtype), x, jnp.asarray(high, x.dtype))  # its derivative keeps one mask
  smoothing = min(smoothing, low) if low > 0 else smoothing  # a corner wider than the floor would lift dark values
  rounded = high - _ramp(high - low - _ramp(x - low, smoothing), smoothing)
  return jnp.clip(rounded, low, high)  # cuts off what rounding adds, and nothing else


def maximum(first: jax.Array, second: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """The larger of the two; ties share the derivative."""
  return second + _ramp(first - second, smoothing) if smoothing else _larger(first, second)


@jax.custom_jvp
def _larger(first, second):
  return jnp.maximum(first, second)


@_larger.defjvp
def _larger_jvp(primals, tangents):
  """Keeps one array for a way back, where `jnp.maximum` keeps two."""
  (first, second), (to_first, to_second) = primals, tangents
  larger = jnp.maximum(first, second)
  share = jnp.where(first == second, 0.5, first > second).astype(larger.dtype)
  return larger, to_second + share * (to_first - to_second)
