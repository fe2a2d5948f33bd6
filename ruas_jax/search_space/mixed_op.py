"""The mixed operation (continuous relaxation) on all searched edges of a cell at once.

    mixed_e(x) = sum_o softmax(alpha_e)_o * operation_o(x; weights_{e,o})

Every candidate is affine, so the sum is exactly one convolution whose kernel is the weighted sum of the candidates'
kernels: `fold_edges`. `sum_of_operations` is the plain sum, the oracle that tests compare with.

Weights of `E` edges: `{operation name: {"kernel": [E, *weight_shape], "bias": [E, C]}}`; operations without weights are
absent.
"""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from ruas_jax.search_space.convolution import Taps
from ruas_jax.search_space.operations import Operation, kernel_on_taps

EdgeWeights = Mapping[str, Mapping[str, jax.Array]]


def init_operation(
  key: jax.Array, operation: Operation, channels: int, dtype=jnp.float32
) -> dict[str, jax.Array] | None:
  """One operation's weights: kernel uniform with variance `1 / (3 fan_in)` (PyTorch's default), bias zero."""
  if operation.weight_shape is None:
    return None
  shape = operation.weight_shape(channels)
  return {"kernel": uniform_fan_in(key, shape, dtype), "bias": jnp.zeros((channels,), dtype)}


def uniform_fan_in(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
  """`U(-b, b)` with `b = 1 / sqrt(fan_in)`; the last axis is the fan-out."""
  return jax.random.uniform(key, shape, dtype, -1.0, 1.0) * math.prod(shape[:-1]) ** -0.5


def init_edges(
  key: jax.Array, operations: Sequence[Operation], channels: int, edges: int, dtype=jnp.float32
) -> EdgeWeights:
  """Weights of every candidate on every edge; each depends only on (key, operation, edge)."""
  weights = {}
  for position, operation in enumerate(operations):
    keys = jax.random.split(jax.random.fold_in(key, position), edges)
    if operation.weight_shape is not None:
      weights[operation.name] = jax.vmap(lambda k, op=operation: init_operation(k, op, channels, dtype))(keys)
  return weights


def fold_edges(
  weights: EdgeWeights, alpha: jax.Array, operations: Sequence[Operation], taps: Taps, channels: int
) -> tuple[jax.Array, jax.Array]:
  """Each edge's mixed operation as one convolution.

  Args:
    weights: of `E` edges, see the module.
    alpha: `[E, O]` architecture logits.
  Returns:
    kernel `[E, T, C, C]` for `convolve` on `taps`, and bias `[E, C]`.
  """
  probabilities = jax.nn.softmax(alpha, axis=-1)
  edges = alpha.shape[0]
  kernel, bias = 0.0, jnp.zeros((edges, channels), alpha.dtype)
  for position, operation in enumerate(operations):
    share = probabilities[:, position]
    own = weights.get(operation.name)
    if own is None:
      one = kernel_on_taps(operation.to_kernel(None, channels), taps, alpha.dtype)
      kernel = kernel + share[:, None, None, None] * one[None]
    else:
      to_taps = lambda weight, op=operation: kernel_on_taps(op.to_kernel(weight, channels), taps, weight.dtype)
      each = jax.vmap(to_taps)(own["kernel"])
      kernel = kernel + share[:, None, None, None] * each
      bias = bias + share[:, None] * own["bias"]
  return kernel, bias


def sum_of_operations(
  x: jax.Array, weights: EdgeWeights, alpha: jax.Array, operations: Sequence[Operation]
) -> jax.Array:
  """The oracle for one edge: every candidate applied by the library's convolution, then the weighted sum.

  Args:
    x: `[B, C, H, W]`.
    weights: of this edge, without the leading axis.
    alpha: `[O]`.
  """
  probabilities = jax.nn.softmax(alpha)
  channels = x.shape[1]
  total = jnp.zeros_like(x)
  for position, operation in enumerate(operations):
    own = weights.get(operation.name, {"kernel": None, "bias": jnp.zeros((channels,), x.dtype)})
    kernel = operation.to_kernel(own["kernel"], channels).astype(x.dtype)
    result = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NCHW", "HWIO", "NCHW"))
    total = total + probabilities[position] * (result + own["bias"][None, :, None, None])
  return total
