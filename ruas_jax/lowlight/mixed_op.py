"""The mixed operation (continuous relaxation) on all searched edges of a cell.

    mixed_e(x) = sum_o shares_{e,o} * operation_o(x; weights_{e,o})

The shares are the mixing weights of the candidates: the softmax of alpha, or another relaxation of the search
(`nas.relaxation`). Every candidate is affine, so the sum is exactly one convolution. Its kernel is the weighted sum of
the candidates' kernels (`fold_edges`). `sum_of_operations` computes the plain sum; tests compare with it.

Weights of `E` edges: `{operation name: {"kernel": [E, *weight_shape], "bias": [E, C]}}`, without operations that have
no weights.
"""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ruas_jax.convolution.primitives import Taps
from ruas_jax.lowlight.operations import Operation, sum_on_taps

EdgeWeights = Mapping[str, Mapping[str, jax.Array]]


def init_kernels(
  key: jax.Array, shapes: Mapping[str, tuple[int, ...]], *, copies: tuple[int, ...] = (), dtype=jnp.float32
) -> dict[str, jax.Array]:
  """Kernels `[*copies, *shape]` by name, drawn from `U(-b, b)` with `b = 1 / sqrt(fan_in)` (PyTorch's default).

  The last axis of a shape is the fan-out, the others the fan-in. One draw makes all of them, to compile only once.
  """
  sizes = [math.prod(copies + shape) for shape in shapes.values()]
  draws = jnp.split(jax.random.uniform(key, (sum(sizes),), dtype, -1.0, 1.0), np.cumsum(sizes, dtype=int))
  return {
    name: draw.reshape(copies + shape) * math.prod(shape[:-1]) ** -0.5
    for (name, shape), draw in zip(shapes.items(), draws[:-1], strict=True)
  }


def init_edges(
  key: jax.Array, operations: Sequence[Operation], channels: int, edges: int, dtype=jnp.float32
) -> EdgeWeights:
  """Weights of every candidate on every edge: kernels of `init_kernels`, and zero biases."""
  shapes = {operation.name: operation.weight_shape(channels) for operation in operations if operation.weight_shape}
  kernels = init_kernels(key, shapes, copies=(edges,), dtype=dtype)
  return {name: {"kernel": kernel, "bias": jnp.zeros((edges, channels), dtype)} for name, kernel in kernels.items()}


def fold_edges(
  weights: EdgeWeights, shares: jax.Array, operations: Sequence[Operation], taps: Taps, channels: int
) -> tuple[jax.Array, jax.Array]:
  """The mixed operations of all edges side by side, as one convolution.

  Args:
    weights: weights of `E` edges; see the module's docstring.
    shares: `[E, O]` mixing weights, or `[E, O, C]` if they differ between output channels.
  Returns:
    Kernel `[T, E * C, C]` for `convolve` on `taps`, and bias `[E * C]`.
  """
  edges = shares.shape[0]
  by_channel = shares if shares.ndim == 3 else shares[..., None]
  kernels, bias = [], jnp.zeros((edges, channels), shares.dtype)
  for position, operation in enumerate(operations):
    share = by_channel[:, position]
    entry = weights.get(operation.name)
    if entry is None:
      each = operation.to_kernel(None, channels).astype(shares.dtype)[None]
    else:
      each = jax.vmap(lambda weight, op=operation: op.to_kernel(weight, channels).astype(weight.dtype))(entry["kernel"])
      bias = bias + share * entry["bias"]
    kernels.append(share[:, None, None, None] * each)
  return sum_on_taps(kernels, taps), bias.reshape(-1)


def sum_of_operations(
  x: jax.Array, weights: EdgeWeights, shares: jax.Array, operations: Sequence[Operation]
) -> jax.Array:
  """Reference for one edge: every candidate computed by the library's convolution, then the weighted sum.

  Args:
    x: `[B, C, H, W]`.
    weights: weights of this edge, without the leading axis.
    shares: `[O]` or `[O, C]`.
  """
  channels = x.shape[1]
  total = jnp.zeros_like(x)
  for position, operation in enumerate(operations):
    entry = weights.get(operation.name, {"kernel": None, "bias": jnp.zeros((channels,), x.dtype)})
    kernel = operation.to_kernel(entry["kernel"], channels).astype(x.dtype)
    result = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NCHW", "HWIO", "NCHW"))
    total = total + shares[position].reshape(1, -1, 1, 1) * (result + entry["bias"][None, :, None, None])
  return total
