"""Convolutions as they stand in an exported program: one dense kernel each, for images of any size and any platform."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ruas_jax.convolution.layout import ImageLayout
from ruas_jax.convolution.parts import Activation, Part, join
from ruas_jax.convolution.primitives import Taps
from ruas_jax.convolution.xla_forms import EXACT, largest_offsets


class Grid(NamedTuple):
  """The smallest centred grid that holds all taps: rows and columns of the dense kernel, and their distances in
  pixels."""

  size: tuple[int, int]
  dilation: tuple[int, int]

  @property
  def padding(self) -> tuple[int, int]:
    """Rows and columns of zeros on each side, so that the result is as large as the image."""
    down, right = ((size // 2) * step for size, step in zip(self.size, self.dilation, strict=True))
    return down, right


def grid(taps: Taps) -> Grid:
  """The grid of these taps: that of a dilated 3x3 convolution has 3x3 numbers with a distance of two pixels."""
  down, right = (math.gcd(*offsets) or 1 for offsets in zip(*taps, strict=True))
  rows, columns = largest_offsets(taps)
  return Grid((2 * rows // down + 1, 2 * columns // right + 1), (down, right))


@dataclasses.dataclass(frozen=True)
class DenseLayout(ImageLayout):
  """Pixel by pixel, with kernels `[C, O, h, w]` on the grid of their taps.

  It needs neither compiled code nor the sides of the image in advance.
  """

  def kernel(self, kernel: jax.Array, taps: Taps) -> jax.Array:
    (rows, columns), dilation = grid(taps)
    offsets = (np.indices((rows, columns)) - np.array([rows // 2, columns // 2])[:, None, None]).transpose(1, 2, 0)
    chosen = np.all(np.array(taps)[:, None, None] == offsets * dilation, axis=-1).astype(kernel.dtype)
    return jnp.einsum("tyx,toc->coyx", chosen, kernel, precision=EXACT)

  def convolve(
    self,
    parts: Sequence[Part],
    kernel: jax.Array,
    bias: jax.Array,
    taps: Taps,
    mask: jax.Array | None = None,
    activation: Activation | None = None,
  ) -> jax.Array:
    down, right = grid(taps).padding
    result = lax.conv_general_dilated(
      self.inside(join(parts), mask),
      kernel,
      window_strides=(1, 1),
      padding=((down, down), (right, right)),
      rhs_dilation=grid(taps).dilation,
      dimension_numbers=("NCHW", "IOHW", "NCHW"),
      precision=self.precision,
    )
    result = result + bias[None, :, None, None]
    return result if activation is None else activation(result)
