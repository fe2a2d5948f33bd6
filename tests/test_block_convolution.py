"""The convolution on blocks of pixels is the library's: values and both gradients, in float64."""

import jax
import numpy as np
import pytest

from benchmarks.speed.block_convolution import (
  block_kernel,
  convolve_blocks,
  convolve_in_blocks,
  into_blocks,
  multiply_blocks,
  out_of_blocks,
)
from ruas_jax.convolution import xla_forms
from ruas_jax.lowlight.operations import CANDIDATES, live_taps

pytestmark = pytest.mark.usefixtures("x64")

UNEVEN = ((-1, 0), (0, 2), (2, -1))  # no symmetry that could hide a flipped sign


def value_and_gradients(convolve, image, kernel, cotangent):
  @jax.jit
  def compute(image, kernel, cotangent):
    result, pull_back = jax.vjp(convolve, image, kernel)
    return result, *pull_back(cotangent)

  return compute(image, kernel, cotangent)


@pytest.mark.parametrize("multiply", [convolve_blocks, multiply_blocks])
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("taps", [live_taps(CANDIDATES, 3), UNEVEN], ids=["search", "uneven"])
def test_blocks_give_the_librarys_convolution_and_gradients(multiply, size, taps):
  rng = np.random.default_rng(0)
  height, width, channels, outputs = 7, 10, 3, 2  # no multiples of 4, and one of 2
  image, cotangent = (rng.normal(size=(2, number, height, width)) for number in (channels, outputs))
  kernel = rng.normal(size=(len(taps), outputs, channels))

  def library(image, kernel):
    return xla_forms.convolve_by_library(image[None], kernel[None], taps=taps)[0]

  def by_blocks(image, kernel):
    return convolve_in_blocks(image, kernel, taps, size, multiply)

  expected = value_and_gradients(library, image, kernel, cotangent)
  for value, reference in zip(value_and_gradients(by_blocks, image, kernel, cotangent), expected, strict=True):
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, reference, rtol=1e-12, atol=1e-12)


def test_blocks_hold_every_pixel_where_they_say():
  image = np.arange(2 * 5 * 6).reshape(1, 2, 5, 6)
  blocks = into_blocks(image, 4)
  assert blocks.shape == (1, 2, 2, 32)
  row, column = 1, 0  # of the block with the pixel in row 4 and column 3, its first row and last column
  np.testing.assert_array_equal(blocks[0, row, column, 3 * 2 : 4 * 2], image[0, :, 4, 3])
  assert not np.any(blocks[0, 1, :, 8:])  # below the image
  np.testing.assert_array_equal(out_of_blocks(blocks, 4, 5, 6), image)


def test_taps_beyond_one_block_are_refused():
  with pytest.raises(ValueError, match="reach 3 pixels"):
    block_kernel(np.zeros((1, 2, 2)), ((0, 3),), 2)
