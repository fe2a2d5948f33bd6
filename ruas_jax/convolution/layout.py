"""How images lie in memory inside the network: pixel by pixel, or in blocks of pixels.

A matrix unit multiplies 128 numbers at a time, but the network has 3 to 28 channels. In blocks, the pixels of a block
are channels too: 4x4 pixels of 7 channels are 112 channels, and a convolution is one dense matrix product over the
nine blocks around each block. So images enter the layout once, stay in it through a whole module, and leave it once.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ruas_jax.convolution.parts import Activation, Part, convolve_parts, join, whole
from ruas_jax.convolution.primitives import Taps, identity_taps
from ruas_jax.convolution.xla_forms import EXACT, largest_offsets


@dataclasses.dataclass(frozen=True)
class ImageLayout:
  """Blocks of `side x side` pixels; side 1 is pixel by pixel.

  Images `[B, H, W, C]` become planes `[B, C * side**2, rows, columns]` of `rows x columns` blocks. The channel axis is
  ordered by channel, then by the pixel's row and column in its block. So planes can be joined and divided by channels
  in every layout. Pixels that blocks add at the right and at the bottom are outside the image.

  `precision` is that of the convolutions' float32 products on an accelerator.
  """

  side: int = 1
  precision: lax.Precision = EXACT

  def enter(self, images: jax.Array) -> jax.Array:
    """Planes of images `[B, H, W, C]`, zero outside the image."""
    planes, side = jnp.moveaxis(images, -1, 1), self.side
    if side == 1:
      return planes
    planes = jnp.pad(planes, ((0, 0), (0, 0), (0, -planes.shape[2] % side), (0, -planes.shape[3] % side)))
    batch, channels, height, width = planes.shape
    planes = planes.reshape(batch, channels, height // side, side, width // side, side).transpose(0, 1, 3, 5, 2, 4)
    return planes.reshape(batch, channels * side**2, height // side, width // side)

  def leave(self, planes: jax.Array, height: int, width: int) -> jax.Array:
    """Images `[..., H, W, C]` of planes `[..., C * side**2, rows, columns]`."""
    side, (*batch, numbers, rows, columns) = self.side, planes.shape
    if side > 1:
      planes = jnp.moveaxis(planes.reshape(*batch, numbers // side**2, side, side, rows, columns), (-4, -3), (-3, -1))
      planes = planes.reshape(*batch, numbers // side**2, rows * side, columns * side)[..., :height, :width]
    return jnp.moveaxis(planes, -3, -1)

  def mask(self, valid: jax.Array | None, height: int, width: int) -> jax.Array | None:
    """The mask that `inside` needs, `[1 or B, side**2, rows, columns]`, or None if all pixels are in the image.

    Args:
      valid: bool `[1 or B, 1, H, W]`, the pixels that are in the image; None: all.
    """
    if valid is None:
      if height % self.side == width % self.side == 0:
        return None
      valid = jnp.ones((1, 1, height, width), bool)
    return self.enter(jnp.moveaxis(valid, 1, -1))

  def inside(self, planes: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Planes with zeros outside the image. It selects instead of multiplying, to remove NaN too."""
    if mask is None:
      return planes
    channels = planes.reshape(planes.shape[0], -1, *mask.shape[1:])
    return jnp.where(mask[:, None], channels, jnp.zeros((), planes.dtype)).reshape(planes.shape)

  def channels(self, planes: jax.Array) -> jax.Array:
    """`[B, C, side**2, rows, columns]`: a separate axis of channels."""
    return planes.reshape(planes.shape[0], -1, self.side**2, *planes.shape[2:])

  def neighbours(self, planes: jax.Array, axis: int, offsets: range) -> list[jax.Array]:
    """For each offset, the planes moved so that a pixel has the value of the pixel so many rows (axis -2) or columns
    (axis -1) further; zero outside. `planes` must be zero outside the image."""
    side, length = self.side, planes.shape[axis]
    first, last = offsets[0] // side, -(-offsets[-1] // side)  # in blocks
    padding = [(0, 0)] * planes.ndim
    padding[axis] = (max(-first, 0), max(last, 0))
    padded = jnp.pad(planes, padding)

    def moved(blocks):
      start = blocks + max(-first, 0)
      return lax.slice_in_dim(padded, start, start + length, axis=axis)

    def one(offset):
      blocks, pixels = divmod(offset, side)
      if not pixels:
        return moved(blocks)
      grid = planes.shape[0], -1, side, side, *planes.shape[2:]
      of_block = {-2: 2, -1: 3}[axis]  # the axis of rows or of columns in a block
      here = lax.slice_in_dim(moved(blocks).reshape(grid), pixels, side, axis=of_block)
      there = lax.slice_in_dim(moved(blocks + 1).reshape(grid), 0, pixels, axis=of_block)
      return jnp.concatenate([here, there], axis=of_block).reshape(planes.shape)

    return [one(offset) for offset in offsets]

  def kernel(self, kernel: jax.Array, taps: Taps) -> jax.Array:
    """The kernel `[T, O, C]` as `convolve` needs it here. In blocks it is a matrix `[inputs, O * side**2]`."""
    if self.side == 1:
      return kernel
    chosen = _connections(taps, self.side).astype(kernel.dtype)
    matrix = jnp.einsum("tnqp,toc->ncqop", chosen, kernel, precision=EXACT)
    return matrix.reshape(-1, matrix.shape[-2] * matrix.shape[-1])

  def bias(self, bias: jax.Array) -> jax.Array:
    """The bias `[O]` as `[O * side**2]`."""
    return bias if self.side == 1 else jnp.repeat(bias, self.side**2)

  def blocks_read(self, taps: Taps) -> int:
    """Number of blocks that one block of the result depends on."""
    return math.prod(2 * blocks + 1 for blocks in _reach(taps, self.side))

  def convolve(
    self,
    parts: Sequence[Part],
    kernel: jax.Array,
    bias: jax.Array,
    taps: Taps,
    mask: jax.Array | None = None,
    activation: Activation | None = None,
  ) -> jax.Array:
    """`convolve_parts` of planes, with a kernel from `kernel` and a bias from `bias`. What `mask` excludes counts as
    zero, even NaN.

    In blocks, a value that is not finite spreads to the blocks around it: zeros in the matrix multiply it.
    """
    if self.side == 1:
      if mask is not None and taps != identity_taps:  # a tap reads other pixels
        parts = [whole(self.inside(part.alone(), mask)) for part in parts]
      return convolve_parts(parts, kernel, taps, bias, activation, precision=self.precision)
    around = _around(self.inside(join(parts), mask), _reach(taps, self.side))
    result = jnp.einsum("bkyx,ko->boyx", around, kernel, precision=self.precision) + bias[None, :, None, None]
    return result if activation is None else activation(result)


def _reach(taps: Taps, side: int) -> tuple[int, int]:
  """Rows and columns of blocks that the taps reach on each side of a block."""
  down, right = largest_offsets(taps)
  return -(-down // side), -(-right // side)


def _around(planes: jax.Array, reach: tuple[int, int]) -> jax.Array:
  """The blocks around each block, joined along the channel axis."""
  if reach == (0, 0):
    return planes
  rows, columns = planes.shape[2:]
  padded = jnp.pad(planes, ((0, 0), (0, 0), (reach[0],) * 2, (reach[1],) * 2))
  starts = np.ndindex(2 * reach[0] + 1, 2 * reach[1] + 1)
  return jnp.concatenate([padded[:, :, y : y + rows, x : x + columns] for y, x in starts], axis=1)


@functools.cache
def _connections(taps: Taps, side: int) -> np.ndarray:
  """`[T, blocks, inputs, outputs]`: one where the tap connects that pixel of the neighbouring block with that pixel of
  the block in the middle."""
  reach = _reach(taps, side)
  pixels = np.indices((side, side)).reshape(2, -1).T
  blocks = np.indices([2 * blocks + 1 for blocks in reach]).reshape(2, -1).T - reach
  distances = (side * blocks[:, None] + pixels)[:, :, None] - pixels
  return np.all(distances == np.array(taps)[:, None, None, None], axis=-1)
