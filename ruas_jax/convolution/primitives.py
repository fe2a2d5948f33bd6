"""The convolution for few channels, in two primitives whose derivatives are each other.

`convolve` and its weight gradient `correlate` are closed under differentiation: the derivative of each with respect to
each operand is one of the two. So a hypergradient of any order, in either mode, uses the fast code.

Array layout: images `[B, C, H, W]` (pixels fastest), kernels `[T, O, C]` over `T` taps, biases `[O]`. A tap is an
offset `(dy, dx)`. Pixels outside the image are zero:

    convolve(image, kernel, bias)[b, o, y, x] = bias[o] + sum_{t, c} kernel[t, o, c] * image[b, c, y + dy_t, x + dx_t]

Without a bias it is bilinear. The bias is part of the primitive, and its gradient one of `correlate`, because separate
sums over pixels would be a tenth of a search's program.

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


def convolve(
  image: jax.Array, kernel: jax.Array, taps: Taps, bias: jax.Array | None = None, *, precision: lax.Precision = EXACT
) -> jax.Array:
  """Cross-correlates `image [B, C, H, W]` with `kernel [T, O, C]` on `taps`, stride 1, zero padding, and adds
  `bias [O]`: `[B, O, H, W]`.

  It is differentiable to any order in all operands and both modes. It is computed in the operands' common dtype.
  `precision` is that of float32 products on an accelerator, also in derivatives; on a CPU they are always exact.
  """
  _check(image, kernel, taps)
  operands = _common_dtype(image, kernel, *([] if bias is None else [bias]))
  return _convolve_p.bind(*(operand[None] for operand in operands), taps=tuple(taps), precision=precision)[0]


def correlate(image: jax.Array, cotangent: jax.Array, taps: Taps, *, precision: lax.Precision = EXACT) -> jax.Array:
  """The weight gradient of `convolve`: `[T, O, C]` from `image [B, C, H, W]` and `cotangent [B, O, H, W]`."""
  image, cotangent = _common_dtype(image, cotangent)
  return _correlate_p.bind(image[None], cotangent[None], taps=tuple(taps), precision=precision, with_bias=False)[0][0]


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


# Derivatives. `affine` is `[kernel]` or `[kernel, bias]`: a bias is a second operand of `convolve`, and its gradient a
# second result of `correlate`. Both are linear in their last operands, and in the image alone if there is no bias.


def _convolve_jvp(operands, tangents, **how):
  image, *affine = operands
  to_image, *to_affine = tangents
  terms = []
  if type(to_image) is not ad.Zero:
    terms.append(_convolve_p.bind(to_image, affine[0], **how))
  if any(type(tangent) is not ad.Zero for tangent in to_affine):
    terms.append(_convolve_p.bind(image, *_without_zero_bias(to_affine), **how))
  return _convolve_p.bind(*operands, **how), functools.reduce(ad.add_jaxvals, terms)


def _convolve_transpose(cotangent, image, *affine, taps, precision):
  if ad.is_undefined_primal(image):
    (kernel,) = affine
    return [_convolve_p.bind(cotangent, kernel.swapaxes(-1, -2), taps=_opposite(taps), precision=precision), None]
  gradients = _correlate_p.bind(image, cotangent, taps=taps, precision=precision, with_bias=len(affine) == 2)
  return [None, *(g if ad.is_undefined_primal(operand) else None for g, operand in zip(gradients, affine, strict=True))]


def _correlate_jvp(operands, tangents, *, with_bias, **how):
  (image, cotangent), (to_image, to_cotangent) = operands, tangents
  results = _correlate_p.bind(image, cotangent, with_bias=with_bias, **how)
  changes = [ad.Zero(jax.typeof(result).to_tangent_aval()) for result in results]
  if type(to_cotangent) is not ad.Zero:
    changes = _correlate_p.bind(image, to_cotangent, with_bias=with_bias, **how)
  if type(to_image) is not ad.Zero:
    (to_kernel,) = _correlate_p.bind(to_image, cotangent, with_bias=False, **how)
    changes = [ad.add_tangents(changes[0], to_kernel), *changes[1:]]
  return results, changes


def _correlate_transpose(affine, image, cotangent, *, taps, precision, with_bias):
  affine = _without_zero_bias(affine)
  if ad.is_undefined_primal(image):
    return [_convolve_p.bind(cotangent, affine[0].swapaxes(-1, -2), taps=_opposite(taps), precision=precision), None]
  return [None, _convolve_p.bind(image, *affine, taps=taps, precision=precision)]


def _without_zero_bias(affine):
  """The kernel, and the bias unless it is zero for sure."""
  return [ad.instantiate_zeros(affine[0]), *(bias for bias in affine[1:] if type(bias) is not ad.Zero)]


# Batching: if only the image or only the others are batched, the batch axis is merged into an existing axis; otherwise
# it becomes groups.


def _fold(operand, into: int):
  """Merges the leading axis into axis `into` of the remaining array, as its slower part."""
  operand = jnp.moveaxis(operand, 0, into)
  merged = operand.shape[into] * operand.shape[into + 1]  # -1 is undefined for an empty array
  return operand.reshape(*operand.shape[:into], merged, *operand.shape[into + 2 :])


def _unfold(operand, axis: int, sizes: tuple[int, ...]):
  """Divides axis `axis` into axes of these two sizes, and moves the first of them to the front."""
  operand = operand.reshape(*operand.shape[:axis], *sizes, *operand.shape[axis + 1 :])
  return jnp.moveaxis(operand, axis, 0)


def _batching_rule(primitive, *, image: tuple, others: tuple):
  """`image` and `others`: if only these are batched, the axis of each operand, and of each result, into which the batch
  is merged."""

  def rule(operands, axes, **parameters):
    size = next(operand.shape[axis] for operand, axis in zip(operands, axes, strict=True) if axis is not None)
    batched = [axes[0] is not None] + [any(axis is not None for axis in axes[1:])] * (len(axes) - 1)
    into, out = ((0, 0, 0), (0, 0)) if all(batched) else image if batched[0] else others
    merged, sizes = list(operands), ()
    for index, (operand, axis) in enumerate(zip(operands, axes, strict=True)):
      if batched[index]:
        moved = jnp.broadcast_to(operand, (size, *operand.shape)) if axis is None else jnp.moveaxis(operand, axis, 0)
        merged[index], sizes = _fold(moved, into[index]), (size, moved.shape[1 + into[index]])
    results = primitive.bind(*merged, **parameters)
    unfold = lambda result, axis: (result, None) if axis is None else (_unfold(result, axis, sizes), 0)
    if not primitive.multiple_results:
      return unfold(results, out[0])
    return tuple(zip(*map(unfold, results, out), strict=True))

  return rule


def _define(name, shapes_of, attributes, platforms, jvp, transpose, **batching_axes):
  """A primitive; it has several results if `shapes_of` gives a list."""
  primitive = Primitive(name)
  primitive.multiple_results = name == "ruas_correlate"

  def abstract(*operands, **parameters):
    shapes = [ShapedArray(shape, operands[0].dtype) for shape in shapes_of(*operands, **parameters)]
    return shapes if primitive.multiple_results else shapes[0]

  primitive.def_abstract_eval(abstract)
  primitive.def_impl(jax.jit(primitive.bind, static_argnames=("taps", "precision", "with_bias")))
  for platform, form in platforms.items():
    rule = mlir.lower_fun(form, multiple_results=primitive.multiple_results)
    mlir.register_lowering(
      primitive, native.lowering(name, attributes, otherwise=rule) if platform else rule, platform=platform
    )
  ad.primitive_jvps[primitive] = jvp
  ad.primitive_transposes[primitive] = transpose
  batching.primitive_batchers[primitive] = _batching_rule(primitive, **batching_axes)
  return primitive


def with_bias(form):
  """`form`, a convolution in XLA's operations, with the bias as an optional operand."""

  def convolved(image, kernel, bias=None, **how):
    result = form(image, kernel, **how)
    return result if bias is None else result + bias[:, None, :, None, None]

  return convolved


def correlate_with_bias(image, cotangent, *, with_bias, **how):
  """`correlate_by_product`, and the gradient of the bias if it is asked for."""
  gradients = [correlate_by_product(image, cotangent, **how)]
  return [*gradients, jnp.sum(cotangent, axis=(1, 3, 4))] if with_bias else gradients


# Shapes with groups: image [G, B, C, H, W], kernel [G, T, O, C], bias [G, O], cotangent and result [G, B, O, H, W].
_convolve_p = _define(
  "ruas_convolve",
  lambda image, kernel, *bias, **_: [(*image.shape[:2], kernel.shape[2], *image.shape[3:])],
  native.convolve_attributes,
  {None: with_bias(convolve_on_accelerator), "cpu": with_bias(convolve_by_shifts)},
  _convolve_jvp,
  _convolve_transpose,
  image=((1,), (1,)),
  others=((None, 2, 1), (2,)),
)
_correlate_p = _define(
  "ruas_correlate",
  lambda image, cotangent, taps, with_bias, **_: [
    (image.shape[0], len(taps), cotangent.shape[2], image.shape[2]),
    *[(image.shape[0], cotangent.shape[2])] * with_bias,
  ],
  native.correlate_attributes,
  {None: correlate_with_bias, "cpu": correlate_with_bias},
  _correlate_jvp,
  _correlate_transpose,
  image=((2,), (3, None)),
  others=((None, 2), (2, 1)),
)

identity_taps: Taps = ((0, 0),)


@functools.cache
def square_taps(size: int, dilation: int = 1) -> Taps:
  """The taps of a centred `size x size` kernel, row by row."""
  half = size // 2
  steps = [dilation * step for step in range(-half, half + 1)]
  return tuple((dy, dx) for dy in steps for dx in steps)
