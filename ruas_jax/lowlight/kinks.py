"""The piecewise-linear functions of the model and the losses, each with a smooth form.

`smoothing` is the width of the rounded corner, in units of the argument. 0 keeps the corner sharp; its derivative is
then the one that holds almost everywhere. With all corners rounded, the problem is infinitely differentiable, as
studies of gradients need it.
"""

import jax
import jax.numpy as jnp
from jax import lax

from ruas_jax.convolution.parts import Activation, LeakyReLU


def absolute(x: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """`|x|`, or Charbonnier's `sqrt(x^2 + s^2)`. The derivative at zero is zero (that of `jnp.abs` is one)."""
  return jnp.sqrt(jnp.square(x) + smoothing**2) if smoothing else x * lax.stop_gradient(jnp.sign(x))


def _ramp(x, smoothing):
  """`max(x, 0)` with its corner rounded."""
  return smoothing * jax.nn.softplus(x / smoothing)


def leaky_relu(slope: float, smoothing: float = 0.0) -> Activation:
  """`max(x, slope * x)` as a function of x."""
  return (lambda x: slope * x + (1 - slope) * _ramp(x, smoothing)) if smoothing else LeakyReLU(slope)


def clip(x: jax.Array, low: float, high: float, smoothing: float = 0.0) -> jax.Array:
  """`min(max(x, low), high)`. The smooth form also stays between `low` and `high`."""
  if not smoothing:
    return lax.clamp(jnp.asarray(low, x.dtype), x, jnp.asarray(high, x.dtype))  # its derivative stores only one mask
  smoothing = min(smoothing, low) if low > 0 else smoothing  # a corner wider than `low` would brighten dark values
  rounded = high - _ramp(high - low - _ramp(x - low, smoothing), smoothing)
  return jnp.clip(rounded, low, high)  # removes only the overshoot of the rounding


def maximum(first: jax.Array, second: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """The larger of the two. Where they are equal, each gets half of the derivative."""
  return second + _ramp(first - second, smoothing) if smoothing else _larger(first, second)


@jax.custom_jvp
def _larger(first, second):
  return jnp.maximum(first, second)


@_larger.defjvp
def _larger_jvp(primals, tangents):
  """Stores one array for reverse mode, where `jnp.maximum` stores two."""
  (first, second), (to_first, to_second) = primals, tangents
  larger = jnp.maximum(first, second)
  share = jnp.where(first == second, 0.5, first > second).astype(larger.dtype)
  return larger, to_second + share * (to_first - to_second)
