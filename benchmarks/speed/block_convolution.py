"""The convolution for few channels on blocks of n x n pixels in the channel axis: a dense 3x3 convolution with many
channels, which suits matrix units.

Blocks are `[B, rows, columns, n * n * C]`, the pixels of a block row by row, channels fastest. An image is padded with
zeros if its sides are not multiples of n. Taps must not reach further than one block. Derivatives are JAX's.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ruas_jax.convolution.primitives import Taps, reach

_OFFSETS = (-1, 0, 1)  # of an input block relative to the output block
Multiply = Callable[..., jax.Array]


def into_blocks(image: jax.Array, size: int) -> jax.Array:
  """Converts `[B, C, H, W]` to blocks with sides of `size` pixels."""
  batch, channels, height, width = image.shape
  rows, columns = -(-height // size), -(-width // size)
  image = jnp.pad(image, ((0, 0), (0, 0), (0, rows * size - height), (0, columns * size - width)))
  image = image.reshape(batch, channels, rows, size, columns, size)
  return image.transpose(0, 2, 4, 3, 5, 1).reshape(batch, rows, columns, size * size * channels)


def out_of_blocks(blocks: jax.Array, size: int, height: int, width: int) -> jax.Array:
  """The image `[B, C, height, width]` in the upper left of the blocks."""
  batch, rows, columns, numbers = blocks.shape
  channels = numbers // size**2
  image = blocks.reshape(batch, rows, columns, size, size, channels).transpose(0, 5, 1, 3, 2, 4)
  return image.reshape(batch, channels, rows * size, columns * size)[..., :height, :width]


def block_kernel(kernel: jax.Array, taps: Taps, size: int) -> jax.Array:
  """Converts `kernel [T, O, C]` to the dense kernel `[3, 3, size * size * C, size * size * O]` between blocks.

  Raises:
    ValueError: a tap reaches further than one block.
  """
  if reach(taps) > size:
    raise ValueError(f"taps that reach {reach(taps)} pixels need blocks of at least that size, not {size}")
  _, outputs, channels = kernel.shape
  chosen = _chosen(taps, size).astype(kernel.dtype)
  dense = jnp.einsum("yxqpt,toc->yxqcpo", chosen, kernel, precision=lax.Precision.HIGHEST)
  return dense.reshape(3, 3, size * size * channels, size * size * outputs)


def _chosen(taps: Taps, size: int) -> np.ndarray:
  """`[3, 3, inputs, outputs, T]`: one where the tap connects that pixel of the input block with that pixel of the
  output block. The first two axes are the offset of the input block."""
  pixels = np.indices((size, size)).reshape(2, -1).T
  sources = size * np.stack(np.meshgrid(_OFFSETS, _OFFSETS, indexing="ij"), -1)[:, :, None] + pixels
  distances = sources[:, :, :, None] - pixels
  return np.all(distances[..., None, :] == np.array(taps), axis=-1)


def convolve_blocks(blocks: jax.Array, dense: jax.Array, *, precision: lax.Precision) -> jax.Array:
  """Convolves blocks with the library's convolution and zero padding."""
  layout = ("NHWC", "HWIO", "NHWC")
  return lax.conv_general_dilated(blocks, dense, (1, 1), "SAME", dimension_numbers=layout, precision=precision)


def multiply_blocks(blocks: jax.Array, dense: jax.Array, *, precision: lax.Precision) -> jax.Array:
  """Convolves blocks by one matrix product over the nine blocks that each output needs, with zero padding."""
  batch, rows, columns, _ = blocks.shape
  padded = jnp.pad(blocks, ((0, 0), (1, 1), (1, 1), (0, 0)))
  around = [padded[:, 1 + y : 1 + y + rows, 1 + x : 1 + x + columns] for y in _OFFSETS for x in _OFFSETS]
  around = jnp.concatenate(around, axis=-1).reshape(batch * rows * columns, -1)
  product = jnp.matmul(around, dense.reshape(-1, dense.shape[-1]), precision=precision)
  return product.reshape(batch, rows, columns, -1)


def convolve_in_blocks(
  image: jax.Array, kernel: jax.Array, taps: Taps, size: int, multiply: Multiply = convolve_blocks
) -> jax.Array:
  """`ruas_jax.convolution.primitives.convolve`, computed on blocks in full precision.

  Args:
    image: `[B, C, H, W]`.
    kernel: `[T, O, C]`.
    taps: taps that reach at most `size` pixels.
    size: side of a block in pixels.
    multiply: `convolve_blocks` or `multiply_blocks`.
  """
  blocks = multiply(into_blocks(image, size), block_kernel(kernel, taps, size), precision=lax.Precision.HIGHEST)
  return out_of_blocks(blocks, size, *image.shape[2:])
