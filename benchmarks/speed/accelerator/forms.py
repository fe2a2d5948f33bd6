"""All ways to compute the convolution for few channels and its two gradients, each on arrays in its layout."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.speed.block_convolution import (
  block_kernel,
  convolve_blocks,
  into_blocks,
  multiply_blocks,
  out_of_blocks,
)
from benchmarks.speed.convolution import library_correlate
from ruas_jax.convolution import xla_forms
from ruas_jax.convolution.primitives import Taps

Bilinear = Callable[[jax.Array, jax.Array], jax.Array]


class Form(NamedTuple):
  """Attributes:
  block: side of the blocks of pixels in the last axis; 1: channels last; 0: `[B, C, H, W]`.
  forward: `(image, kernel [T, O, C]) -> result`, or None.
  image_gradient: `(cotangent, kernel) -> image`, or None.
  weight_gradient: `(image, cotangent) -> [T, O, C]`, or None.
  """

  block: int
  forward: Bilinear | None = None
  image_gradient: Bilinear | None = None
  weight_gradient: Bilinear | None = None

  def arrange(self, image: jax.Array) -> jax.Array:
    """Converts `[B, C, H, W]` to this form's layout."""
    return into_blocks(image, self.block) if self.block else image

  def restore(self, image: jax.Array, side: int) -> jax.Array:
    """Converts this form's layout to `[B, C, H, W]`."""
    return out_of_blocks(image, self.block, side, side) if self.block else image

  def halve(self, image: jax.Array, channels: int) -> jax.Array:
    """The sum of the first and the second half of `2 * channels` channels."""
    if not self.block:
      return image[:, :channels] + image[:, channels:]
    split = image.reshape(*image.shape[:-1], self.block**2, 2, channels)
    return (split[..., 0, :] + split[..., 1, :]).reshape(*image.shape[:-1], -1)

  def double(self, image: jax.Array, channels: int) -> jax.Array:
    """The `channels` channels repeated twice."""
    if not self.block:
      return jnp.concatenate([image, image], axis=1)
    split = image.reshape(*image.shape[:-1], self.block**2, channels)
    return jnp.concatenate([split, split], axis=-1).reshape(*image.shape[:-1], -1)


def forms(taps: Taps, side: int, channels: int, precision: lax.Precision) -> dict[str, Form]:
  """Forms by name, whose products have this precision; but shifted sums are exact."""
  outputs = 2 * channels
  opposite = tuple((-dy, -dx) for dy, dx in taps)

  def grouped(function, taps, **options):  # the package's forms have a leading axis of groups
    return lambda first, second: function(first[None], second[None], taps=taps, **options)[0]

  def transposed(function):
    convolve = grouped(function, opposite)
    return lambda cotangent, kernel: convolve(cotangent, kernel.swapaxes(1, 2))

  def derived(block, forward):
    """A form with gradients derived by JAX."""
    form = Form(block)
    shape = jax.eval_shape(form.arrange, jax.ShapeDtypeStruct((1, channels, side, side), jnp.float32)).shape
    kernel_shape = len(taps), outputs, channels

    def image_gradient(cotangent, kernel):
      return jax.linear_transpose(lambda image: forward(image, kernel), jnp.zeros(shape))(cotangent)[0]

    def weight_gradient(image, cotangent):
      return jax.linear_transpose(lambda kernel: forward(image, kernel), jnp.zeros(kernel_shape))(cotangent)[0]

    return Form(block, forward, image_gradient, weight_gradient)

  def in_blocks(size, multiply):
    return derived(size, lambda image, kernel: multiply(image, block_kernel(kernel, taps, size), precision=precision))

  library = derived(0, grouped(xla_forms.convolve_by_library, taps, precision=precision))
  return {
    "library NCHW": library._replace(weight_gradient=grouped(library_correlate, taps, precision=precision)),
    "library NHWC": derived(1, lambda image, kernel: _channels_last(image, kernel, taps, precision)),
    "shifted sums": Form(
      0,
      grouped(_shifted_sums, taps),
      transposed(_shifted_sums),
      lambda image, cotangent: _product_for_each_tap(image, cotangent, taps, precision),
    ),
    "row-column product": Form(0, weight_gradient=grouped(xla_forms.correlate_by_product, taps, precision=precision)),
    "blocks 4x4, convolution": in_blocks(4, convolve_blocks),
    "blocks 4x4, product": in_blocks(4, multiply_blocks),
    "blocks 2x2, convolution": in_blocks(2, convolve_blocks),
    "blocks 2x2, product": in_blocks(2, multiply_blocks),
  }


def _channels_last(image, kernel, taps, precision):
  """The library's convolution of `[B, H, W, C]`."""
  reach = max(xla_forms.largest_offsets(taps))
  offsets = np.indices((2 * reach + 1,) * 2).transpose(1, 2, 0) - reach
  chosen = np.all(np.array(taps)[:, None, None] == offsets, axis=-1).astype(kernel.dtype)
  dense = jnp.einsum("tyx,toc->yxco", chosen, kernel, precision=lax.Precision.HIGHEST)
  return convolve_blocks(image, dense, precision=precision)


def _shifted_sums(image, kernel, *, taps):
  """As on a CPU without the compiled form, but XLA may merge it into its consumers."""
  padding = [(reach, reach) for reach in xla_forms.largest_offsets(taps)]
  return xla_forms.shifted_sums(jnp.pad(image, [(0, 0)] * 3 + padding), kernel, taps=taps)


def _product_for_each_tap(image, cotangent, taps, precision):
  """The weight gradient as one product over the pixels for each tap."""
  (reach_y, reach_x), (height, width) = xla_forms.largest_offsets(taps), image.shape[2:]
  padded = jnp.pad(image, ((0, 0), (0, 0), (reach_y, reach_y), (reach_x, reach_x)))
  shifted = [padded[..., reach_y + dy : reach_y + dy + height, reach_x + dx : reach_x + dx + width] for dy, dx in taps]
  return jnp.stack([jnp.einsum("boyx,bcyx->oc", cotangent, plane, precision=precision) for plane in shifted])
