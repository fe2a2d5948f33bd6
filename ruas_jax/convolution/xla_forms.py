"""The two bilinear maps of `primitives` as XLA operations, for every platform and dtype.

On a CPU without `native`, a convolution is a sum of shifted, scaled images. XLA makes it one vectorised loop over
pixels on all cores. A weight gradient is one matrix product over the pixels. Accelerators use their convolution unit.
Operands have a leading axis of groups: image `[G, B, C, H, W]`, kernel `[G, T, O, C]`, cotangent and result `[G, B, O,
H, W]`.
"""

import functools
import itertools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

Taps = tuple[tuple[int, int], ...]

_MOST_TERMS = 256  # largest number of products per output that is written out; more would make the program too long
_LEAST_PIXELS = 1024  # smallest image for which the sum is written out; others do not need so long a program
_CHAINS = 4  # independent sums per output: within one sum, every addition waits for the previous one
_STRIP_PIXELS = 25_600  # pixels in one matrix product: its operands fit in the cache, and products run in parallel
_MOST_STRIPS = 8
EXACT = lax.Precision.HIGHEST  # true float32, never TF32


def largest_offsets(taps: Taps) -> tuple[int, int]:
  """The largest row offset and the largest column offset."""
  return max(abs(dy) for dy, _ in taps), max(abs(dx) for _, dx in taps)


def _pad(image, rows, columns):
  return jnp.pad(image, ((0, 0),) * 3 + (rows, columns))


def _shifts(taps: Taps) -> tuple[list[int], list[int]]:
  """The different row shifts and column shifts of the taps, in ascending order."""
  rows, columns = (sorted(set(shifts)) for shifts in zip(*taps, strict=True))
  return rows, columns


def _grid(taps: Taps, dtype) -> np.ndarray:
  """`[T, rows, columns]`, one where the tap has that row shift and that column shift. It expresses a gather as a
  product, which XLA compiles faster."""
  rows, columns = (np.array(shifts) for shifts in _shifts(taps))
  offsets = np.array(taps)
  return ((offsets[:, :1, None] == rows[:, None]) & (offsets[:, 1:, None] == columns)).astype(dtype)


def _on_its_own(function, *operands):
  """`function(*operands)` as a call that XLA does not inline. XLA would merge it into each of its consumers, which
  would then repeat the work. An optimisation barrier does not help, because it is removed before XLA merges."""
  with set_xla_metadata(inlineable="false"):
    return jax.jit(function)(*operands)


def convolve_by_shifts(image, kernel, *, taps, precision=EXACT):
  """A sum of shifted, scaled images if the program is short enough, else `convolve_by_library`."""
  groups, _, channels, height, width = image.shape
  small = height * width < _LEAST_PIXELS and groups == 1  # for groups the library makes long and slow programs
  if len(taps) * channels > _MOST_TERMS or small:
    return convolve_by_library(image, kernel, taps=taps, precision=precision)
  reach_y, reach_x = largest_offsets(taps)
  padded = _pad(image, (reach_y, reach_y), (reach_x, reach_x))
  return _on_its_own(functools.partial(shifted_sums, taps=taps), padded, kernel)


def shifted_sums(padded, kernel, *, taps):
  """The convolution of an image padded by the largest offsets, written out term by term."""
  groups, batch, channels, *padded_sides = padded.shape
  reach_y, reach_x = largest_offsets(taps)
  height, width = padded_sides[0] - 2 * reach_y, padded_sides[1] - 2 * reach_x
  shape, sums = (groups, batch, kernel.shape[2], height, width), []
  for tap, (dy, dx) in enumerate(taps):
    for channel in range(channels):
      start = (0, 0, channel, reach_y + dy, reach_x + dx)
      shifted = lax.slice(padded, start, (groups, batch, channel + 1, start[3] + height, start[4] + width))
      term = lax.broadcast_in_dim(kernel[:, tap, :, channel], shape, (0, 2)) * lax.broadcast_in_dim(
        lax.squeeze(shifted, (2,)), shape, (0, 1, 3, 4)
      )
      sums.append(sums[-_CHAINS] + term if len(sums) >= _CHAINS else term)
  return functools.reduce(operator.add, sums[-_CHAINS:])


def convolve_on_accelerator(image, kernel, *, taps, precision=EXACT):
  """`convolve_by_bands` for a window over one channel along rows or columns, else `convolve_by_library`."""
  along_a_line = 0 in largest_offsets(taps)
  return (convolve_by_bands if along_a_line and image.shape[2] == kernel.shape[2] == 1 else convolve_by_library)(
    image, kernel, taps=taps, precision=precision
  )


def convolve_by_bands(image, kernel, *, taps, precision=EXACT):
  """A product of each row, or each column, with a band matrix. A matrix unit needs at least a hundred channels for a
  convolution, but an image has hundreds of pixels in a row."""
  axis = 3 if largest_offsets(taps)[1] == 0 else 4
  pixels = np.arange(image.shape[axis])
  distances = pixels[:, None] - pixels
  which = np.full(distances.shape, len(taps))
  for tap, offsets in enumerate(taps):
    which[distances == sum(offsets)] = tap  # the other offset is zero
  band = jnp.take(jnp.pad(kernel[..., 0, 0], ((0, 0), (0, 1))), which, axis=1)
  return jnp.einsum("gbcyx,gyz->gbczx" if axis == 3 else "gbcyx,gxz->gbcyz", image, band, precision=precision)


def convolve_by_library(image, kernel, *, taps, precision=EXACT):
  """The convolution of XLA's library."""
  reach_y, reach_x = largest_offsets(taps)
  square = np.moveaxis(np.mgrid[-reach_y : reach_y + 1, -reach_x : reach_x + 1], 0, -1)
  chosen = np.all(np.array(taps)[:, None, None] == square, axis=-1)  # expresses a scatter as a product

  def one_group(image, kernel):
    dense = jnp.einsum("tyx,toc->yxoc", chosen.astype(kernel.dtype), kernel, precision=EXACT)
    return lax.conv_general_dilated(
      image,
      dense,
      window_strides=(1, 1),
      padding=((reach_y, reach_y), (reach_x, reach_x)),
      dimension_numbers=("NCHW", "HWOI", "NCHW"),
      precision=precision,
    )

  return jax.vmap(one_group)(image, kernel)


def correlate_by_product(image, cotangent, *, taps, precision=EXACT):
  """One matrix product for each strip of the images."""
  # K[dy, dx, o, c] = sum_{r, x} cotangent[o, r - dy, x] * image[c, r, x + dx]: the cotangent takes the row shifts and
  # the image the column shifts, so few copies make every pair. Pairs that are not taps are dropped.
  groups, _, channels, height, width = image.shape
  outputs = cotangent.shape[2]
  rows, columns = _shifts(taps)
  reach_y, reach_x = largest_offsets(taps)

  # Both are padded as for a convolution, so that they share the padding. Each row of the cotangent then ends in zeros.
  # A shift along the row may read from the next row, because these values are multiplied by the zeros.
  reach_y = max(reach_y, min(reach_x, 1))
  padding = (reach_y, reach_y), (reach_x, reach_x)
  cotangent, image = _pad(cotangent, *padding), _pad(image, *padding)
  wide = width + 2 * reach_x

  def products(top, bottom):  # of a strip; as matrices, because a product over several axes is slow
    flat = image.reshape(*image.shape[:3], -1)
    first, last = (reach_y + top) * wide, (reach_y + bottom) * wide
    left = [cotangent[..., reach_y + top - dy : reach_y + bottom - dy, :] for dy in rows]
    left = jnp.concatenate([part.reshape(*part.shape[:3], -1) for part in left], axis=2)
    right = jnp.concatenate([flat[..., first + dx : last + dx] for dx in columns], axis=2)
    # One product for each image, then their sum: the batch axis stays, so that devices can divide it.
    each = lax.dot_general(left, right, (((3,), (3,)), ((0, 1), (0, 1))), precision=precision)
    return jnp.sum(each, axis=1)

  strips = min(_MOST_STRIPS, -(-height * width // _STRIP_PIXELS))
  edges = [height * strip // strips for strip in range(strips + 1)]
  total = functools.reduce(
    operator.add, (products(top, bottom) for top, bottom in itertools.pairwise(edges) if bottom > top)
  )
  total = total.reshape(groups, len(rows), outputs, len(columns), channels)
  return jnp.einsum("tyx,gyoxc->gtoc", _grid(taps, total.dtype), total, precision=EXACT)
