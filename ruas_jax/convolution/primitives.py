"""The convolution for few channels: two bilinear primitives whose derivatives are each other.

`convolve` and its weight gradient `correlate` are closed under differentiation: the derivative of each with respect to
each operand is one of the two. So a hypergradient of any order, in either mode, uses the fast code.

Array layout: images `[B, C, H, W]` (pixels fastest), kernels `[T, O, C]` over `T` taps. A tap is an offset `(dy, dx)`.
Pixels outside the image are zero:

    convolve(image, kernel)[b, o, y, x] = sum_{t, c} kernel[t, o, c] * image[b, c, y + dy_t, x + dx_t]

Both primitives have a leading axis of `G` independent groups. `jax.vmap` over both operands uses it.

Other files compute them: `native` on a CPU for which it was built, else `xla_forms`.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ruas_jax.convolution import native
from ruas_jax.convolution.xla_forms import (
  EXACT,
  Taps,
  convolve_by_shifts,
  convolve_on_accelerator,
  correlate_by_product,
  largest_offsets,
)


def convolve(image: jax.Array, kernel: jax.Array, taps: Taps, precision: lax.Precision = EXACT) -> jax.Array:
  """Cross-correlates `image [B, C, H, W]` with `kernel [T, O, C]` on `taps`, stride 1, zero padding: `[B, O, H, W]`.

  It is differentiable to any order in both operands and modes. It is computed in the operands' common dtype.
  `precision` is that of float32 products on an accelerator, also in derivatives; on a CPU they are always exact.
  """
  _check(image, kernel, taps)
  image, kernel = _common_dtype(image, kernel)
  return _convolve_p.bind(image[None], kernel[None], taps=tuple(taps), precision=precision)[0]


def correlate(image: jax.Array, cotangent: jax.Array, taps: Taps, precision: lax.Precision = EXACT) -> jax.Array:
  """The weight gradient of `convolve`: `[T, O, C]` from `image [B, C, H, W]` and `cotangent [B, O, H, W]`."""
  image, cotangent = _common_dtype(image, cotangent)
  return _correlate_p.bind(image[None], cotangent[None], taps=tuple(taps), precision=precision)[0]


def _check(image, kernel, taps):
  if image.ndim != 4 or kernel.ndim != 3 or kernel.shape[0] != len(taps) or kernel.shape[2] != image.shape[1]:
    raise ValueError(
      f"convolve needs image [B, C, H, W] and kernel [{len(taps)}, O, C], not {image.shape} and {kernel.shape}"
    )


def _common_dtype(*operands):
  dtype = jnp.result_type(*operands)
  return [jnp.asarray(operand, dtype) for operand in operands]


def reach(taps: Taps) -> int:
  """The largest row or column offset among the taps."""
  return max(largest_offsets(taps))


def _opposite(taps: Taps) -> Taps:
  return tuple((-dy, -dx) for dy, dx in taps)


# Derivatives: each transpose of a bilinear primitive is the other primitive, or the same one with opposite taps.


def _convolve_image_transpose(cotangent, _, kernel, *, taps, precision):
  return _convolve_p.bind(cotangent, kernel.swapaxes(-1, -2), taps=_opposite(taps), precision=precision)


def _convolve_kernel_transpose(cotangent, image, _, *, taps, precision):
  return _correlate_p.bind(image, cotangent, taps=taps, precision=precision)


def _correlate_image_transpose(kernel, _, cotangent, *, taps, precision):
  return _convolve_p.bind(cotangent, kernel.swapaxes(-1, -2), taps=_opposite(taps), precision=precision)


def _correlate_cotangent_transpose(kernel, image, _, *, taps, precision):
  return _convolve_p.bind(image, kernel, taps=taps, precision=precision)


# Batching: if one operand is batched, its batch axis is merged into an existing axis; if both are, it becomes groups.


def _fold(operand, into: int):
  """Merges the leading axis into axis `into` of the remaining array, as its slower part."""
  operand = jnp.moveaxis(operand, 0, into)
  merged = operand.shape[into] * operand.shape[into + 1]  # -1 is undefined for an empty array
  return operand.reshape(*operand.shape[:into], merged, *operand.shape[into + 2 :])


def _unfold(operand, axis: int, sizes: tuple[int, ...]):
  """Divides axis `axis` into axes of these two sizes, and moves the first of them to the front."""
  operand = operand.reshape(*operand.shape[:axis], *sizes, *operand.shape[axis + 1 :])
  return jnp.moveaxis(operand, axis, 0)


def _batching_rule(primitive, first_into: int, first_out: int, second_into: int, second_out: int):
  def rule(operands, axes, **parameters):
    first, second = (
      operand if axis is None else jnp.moveaxis(operand, axis, 0) for operand, axis in zip(operands, axes, strict=True)
    )
    if axes[1] is None:
      sizes, out = (first.shape[0], first.shape[1 + first_into]), first_out
      first = _fold(first, first_into)
    elif axes[0] is None:
      sizes, out = (second.shape[0], second.shape[1 + second_into]), second_out
      second = _fold(second, second_into)
    else:
      sizes, out = first.shape[:2], 0
      first, second = _fold(first, 0), _fold(second, 0)
    return _unfold(primitive.bind(first, second, **parameters), out, sizes), 0

  return rule


def _lower(function):
  return mlir.lower_fun(function, multiple_results=False)


def _define(name, shape_of, lowerings, transposes, batching_axes):
  primitive = Primitive(name)
  primitive.def_abstract_eval(
    lambda first, second, *, taps, precision: ShapedArray(shape_of(first, second, taps), first.dtype)
  )
  primitive.def_impl(jax.jit(primitive.bind, static_argnames=("taps", "precision")))
  for platform, rule in lowerings.items():
    mlir.register_lowering(primitive, rule, platform=platform)
  ad.defbilinear(primitive, *transposes)
  batching.primitive_batchers[primitive] = _batching_rule(primitive, *batching_axes)
  return primitive


# Shapes with groups: image [G, B, C, H, W], kernel [G, T, O, C], cotangent and result [G, B, O, H, W].
_convolve_p = _define(
  "ruas_convolve",
  lambda image, kernel, taps: (*image.shape[:2], kernel.shape[2], *image.shape[3:]),
  {
    None: _lower(convolve_on_accelerator),
    "cpu": native.lowering("ruas_convolve", otherwise=_lower(convolve_by_shifts)),
  },
  (_convolve_image_transpose, _convolve_kernel_transpose),
  (1, 1, 2, 2),
)
_correlate_p = _define(
  "ruas_correlate",
  lambda image, cotangent, taps: (image.shape[0], len(taps), cotangent.shape[2], image.shape[2]),
  {
    None: _lower(correlate_by_product),
    "cpu": native.lowering("ruas_correlate", otherwise=_lower(correlate_by_product)),
  },
  (_correlate_image_transpose, _correlate_cotangent_transpose),
  (2, 3, 2, 2),
)

identity_taps: Taps = ((0, 0),)


@functools.cache
def square_taps(size: int, dilation: int = 1) -> Taps:
  """The taps of a centred `size x size` kernel, row by row."""
  half = size // 2
  steps = [dilation * step for step in range(-half, half + 1)]
  return tuple((dy, dx) for dy in steps for dx in steps)
