"""Ways to compute the convolution for few channels and its two gradients, each on planes in its layout."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ruas_jax.convolution import xla_forms
from ruas_jax.convolution.layout import ImageLayout
from ruas_jax.convolution.parts import whole
from ruas_jax.convolution.primitives import Taps

Bilinear = Callable[[jax.Array, jax.Array], jax.Array]


class Form(NamedTuple):
  """Attributes:
  layout: layout of the planes.
  forward: `(planes, kernel [T, O, C]) -> result`, or None.
  image_gradient: `(cotangent, kernel) -> planes`, or None.
  weight_gradient: `(planes, cotangent) -> [T, O, C]`, or None.
  """

  layout: ImageLayout
  forward: Bilinear | None = None
  image_gradient: Bilinear | None = None
  weight_gradient: Bilinear | None = None


def forms(taps: Taps, side: int, channels: int, precision: lax.Precision) -> dict[str, Form]:
  """Forms by name for images with sides of `side` pixels, a multiple of 4, and twice as many outputs as channels.
  `pixels` and `blocks 4x4` are the package's. Products have this precision, but shifted sums are exact."""

  def derived(size: int, forward: Callable) -> Form:
    """`forward(layout, planes, kernel)` and its gradients by JAX."""
    layout = ImageLayout(size, precision)
    forward = functools.partial(forward, layout)
    shape = jax.eval_shape(layout.enter, jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)).shape
    planes, kernel = jnp.zeros(shape), jnp.zeros((len(taps), 2 * channels, channels))  # any, as it is linear in both
    return Form(
      layout,
      forward,
      lambda cotangent, kernel: jax.vjp(lambda planes: forward(planes, kernel), planes)[1](cotangent)[0],
      lambda planes, cotangent: jax.vjp(lambda kernel: forward(planes, kernel), kernel)[1](cotangent)[0],
    )

  no_bias = jnp.zeros(2 * channels)

  def of_package(layout, planes, kernel):
    return layout.convolve([whole(planes)], layout.kernel(kernel, taps), layout.bias(no_bias), taps)

  def dense_convolution(layout, planes, kernel):
    dense = layout.kernel(kernel, taps).reshape(3, 3, planes.shape[1], -1)
    order = ("NCHW", "HWIO", "NCHW")
    return lax.conv_general_dilated(planes, dense, (1, 1), "SAME", dimension_numbers=order, precision=precision)

  def library(layout, planes, kernel):
    return xla_forms.convolve_by_library(planes[None], kernel[None], taps=taps, precision=precision)[0]

  opposite = tuple((-dy, -dx) for dy, dx in taps)
  return {
    "pixels": derived(1, of_package),
    "blocks 4x4": derived(4, of_package),
    "blocks 2x2": derived(2, of_package),
    "blocks 4x4, convolution": derived(4, dense_convolution),
    "library": derived(1, library)._replace(forward=None, image_gradient=None),  # these are those of `pixels`
    "shifted sums": Form(
      ImageLayout(),
      lambda planes, kernel: _shifted_sums(planes, kernel, taps),
      lambda cotangent, kernel: _shifted_sums(cotangent, kernel.swapaxes(1, 2), opposite),
    ),
  }


def _shifted_sums(image, kernel, taps):
  """As on a CPU without the compiled form, but XLA may merge it into its consumers."""
  padding = [(reach, reach) for reach in xla_forms.largest_offsets(taps)]
  return xla_forms.shifted_sums(jnp.pad(image[None], [(0, 0)] * 3 + padding), kernel[None], taps=taps)[0]
