"""Candidate operations: affine maps, each defined by its kernel.

An operation turns its weights into a dense kernel `[h, w, C_in, C_out]` (h and w odd, centred, zero "same" padding).
The search space needs nothing else, so a new affine operation is one function:

    def to_kernel(weight, channels):            # a learned 1x3 average over each channel
      row = jnp.ones((1, 3, 1, 1)) / 3
      return row * jnp.diag(weight)[None, None]

    Operation("row_mean", weight_shape=lambda channels: (channels,), to_kernel=to_kernel)
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ruas_jax.convolution.primitives import Taps


@dataclasses.dataclass(frozen=True)
class Operation:
  """An affine candidate operation on `C` channels.

  Attributes:
    name: name, unique in a set of candidates; genotypes store it.
    weight_shape: `channels -> shape` of its weight; `None`: it has no weights, and no bias either.
    to_kernel: `(weight or None, channels) -> [h, w, C_in, C_out]`.
  """

  name: str
  weight_shape: Callable[[int], tuple[int, ...]] | None
  to_kernel: Callable[[jax.Array | None, int], jax.Array]


def identity_kernel(channels: int) -> jax.Array:
  """`[1, 1, C, C]`: the kernel of the identity."""
  return jnp.eye(channels)[None, None]


def resize(kernel: jax.Array, height: int, width: int) -> jax.Array:
  """Embeds a centred kernel `[h, w, ...]` in a larger one, with zeros around it."""
  rows, columns = (height - kernel.shape[0]) // 2, (width - kernel.shape[1]) // 2
  return jnp.pad(kernel, ((rows, rows), (columns, columns)) + ((0, 0),) * (kernel.ndim - 2))


def dilate(kernel: jax.Array, rate: int) -> jax.Array:
  """Moves the taps of `[h, w, C_in, C_out]` `rate` pixels apart."""
  between = (0, 0, rate - 1)
  return lax.pad(kernel, jnp.zeros((), kernel.dtype), (between, between, (0, 0, 0), (0, 0, 0)))


def convolution_operation(name: str, size: int, *, dilation: int = 1, residual: bool = False) -> Operation:
  """A `size x size` convolution with bias, dilated by `dilation`; `residual` adds the input to the result."""

  def to_kernel(weight, channels):
    kernel = dilate(weight, dilation)
    return kernel + resize(identity_kernel(channels).astype(kernel.dtype), *kernel.shape[:2]) if residual else kernel

  return Operation(name, lambda channels: (size, size, channels, channels), to_kernel)


SKIP = Operation("skip", None, lambda _, channels: identity_kernel(channels))

CANDIDATES: tuple[Operation, ...] = (
  SKIP,
  convolution_operation("conv_1x1", 1),
  convolution_operation("conv_3x3", 3),
  convolution_operation("dilated_conv_3x3", 3, dilation=2),
  convolution_operation("residual_conv_1x1", 1, residual=True),
  convolution_operation("residual_conv_3x3", 3, residual=True),
  convolution_operation("residual_dilated_conv_3x3", 3, dilation=2, residual=True),
)
"""The paper's seven candidates (section 3.2.1)."""


def operation_names(operations: Sequence[Operation]) -> tuple[str, ...]:
  return tuple(operation.name for operation in operations)


def live_taps(operations: tuple[Operation, ...], channels: int, names: Sequence[str] | None = None) -> Taps:
  """The taps that the operations (or only those in `names`) can use: the centre and all others, row by row."""
  used = _taps_of_each(operations, channels)
  return tuple(sorted({(0, 0)}.union(*(used[name] for name in (used if names is None else names)))))


def own_taps(operations: tuple[Operation, ...], channels: int) -> dict[str, Taps]:
  """The taps of an edge with one operation, by its name: none for `SKIP`, which needs no convolution."""
  return {
    operation.name: () if operation == SKIP else live_taps(operations, channels, (operation.name,))
    for operation in operations
  }


@functools.cache
def _taps_of_each(operations: tuple[Operation, ...], channels: int) -> dict[str, frozenset[tuple[int, int]]]:
  """The non-zero positions of each operation's kernel, by name. One small program computes all of them.

  Raises:
    ValueError: a kernel is not `[odd, odd, C, C]`.
  """
  rng = np.random.default_rng(0)  # random weights have no zeros by accident
  weights = {
    operation.name: rng.uniform(1, 2, operation.weight_shape(channels)).astype(np.float32)
    for operation in operations
    if operation.weight_shape is not None
  }

  def sample_kernels(weights):
    return {operation.name: operation.to_kernel(weights.get(operation.name), channels) for operation in operations}

  # Compiled explicitly, because this may be called while another program is traced.
  kernels = jax.jit(sample_kernels).lower(weights).compile()(weights)
  return {name: _nonzero_taps(name, np.asarray(kernel)) for name, kernel in kernels.items()}


def _nonzero_taps(name: str, kernel: np.ndarray) -> frozenset[tuple[int, int]]:
  if kernel.ndim != 4 or kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
    raise ValueError(f"operation {name!r}: its kernel must be [odd, odd, C, C], not {kernel.shape}")
  rows, columns = np.nonzero(np.any(kernel != 0, axis=(2, 3)))
  return frozenset(
    (int(y) - kernel.shape[0] // 2, int(x) - kernel.shape[1] // 2) for y, x in zip(rows, columns, strict=True)
  )


def kernel_on_taps(kernel: jax.Array, taps: Taps, dtype) -> jax.Array:
  """Converts `[h, w, C_in, C_out]` to `convolve`'s `[T, C_out, C_in]` of `dtype`; taps outside the kernel are zero."""
  return sum_on_taps([kernel[None].astype(dtype)], taps)


def sum_on_taps(kernels: Sequence[jax.Array], taps: Taps) -> jax.Array:
  """The sum of centred kernels `[E, h, w, C_in, C_out]` of different sizes, as `convolve`'s `[T, E * C_out, C_in]`.

  One matrix product gathers and adds all of them, because every small array operation takes time to compile.
  """
  offsets = np.concatenate([_offsets(*kernel.shape[1:3]) for kernel in kernels])
  numbers = jnp.concatenate([kernel.reshape(kernel.shape[0], -1, *kernel.shape[3:]) for kernel in kernels], axis=1)
  chosen = np.all(np.array(taps)[:, None] == offsets, axis=-1).astype(numbers.dtype)
  kernel = jnp.einsum("tn,enio->teoi", chosen, numbers, precision=lax.Precision.HIGHEST)
  return kernel.reshape(len(taps), -1, kernel.shape[-1])


def _offsets(height: int, width: int) -> np.ndarray:
  """`[height * width, 2]`: the offsets of a centred kernel's numbers, row by row."""
  return np.indices((height, width)).reshape(2, -1).T - (height // 2, width // 2)
