"""The few-channel convolution: two bilinear primitives that are each other's derivatives.

`convolve` and its weight gradient `correlate` are closed under differentiation: the derivative of either with respect
to either operand is one of the two again, so a hypergradient of any order, in either mode, stays in fast code.

Inner layout: images `[B, C, H, W]` (pixels fastest), kernels `[T, O, C]` over `T` taps. A tap is an offset `(dy, dx)`;
pixels outside the image are zero:

    convolve(image, kernel)[b, o, y, x] = sum_{t, c} kernel[t, o, c] * image[b, c, y + dy_t, x + dx_t]

Both primitives carry a leading axis of `G` independent groups, which `jax.vmap` over both operands fills.
"""

import functools
import itertools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Taps = tuple[tuple[int, int], ...]

_MOST_TERMS = 256  # products per output number that are written out; beyond, the program grows too long
_LEAST_PIXELS = 1024  # for which that is done; a smaller image is not worth so long a program
_CHAINS = 4  # independent sums per output number: within one, every addition waits for the one before
_STRIP_PIXELS = 25_600  # of one matrix product: its operands stay near the core, and products run side by side
_MOST_STRIPS = 8
_EXACT = lax.Precision.HIGHEST  # float32 as float32, never TF32


def convolve(image: jax.Array, kernel: jax.Array, taps: Taps) -> jax.Array:
  """Cross-correlates `image [B, C, H, W]` with `kernel [T, O, C]` on `taps`, stride 1, zeros outside: `[B, O, H, W]`.

  Differentiable to any order in both operands and modes. Computed in the operands' common dtype; float32 stays float32
  (no TF32).
  """
  _check(image, kernel, taps)
  image, kernel = _common_dtype(image, kernel)
  return _convolve_p.bind(image[None], kernel[None], taps=tuple(taps))[0]


def correlate(image: jax.Array, cotangent: jax.Array, taps: Taps) -> jax.Array:
  """The weight gradient of `convolve`: `[T, O, C]` from `image [B, C, H, W]` and `cotangent [B, O, H, W]`."""
  image, cotangent = _common_dtype(image, cotangent)
  return _correlate_p.bind(image[None], cotangent[None], taps=tuple(taps))[0]


def _check(image, kernel, taps):
  if image.ndim != 4 or kernel.ndim != 3 or kernel.shape[0] != len(taps) or kernel.shape[2] != image.shape[1]:
    raise ValueError(
      f"convolve takes image [B, C, H, W] and kernel [{len(taps)}, O, C]; got {image.shape} and {kernel.shape}"
    )


def _common_dtype(*operands):
  dtype = jnp.result_type(*operands)
  return [jnp.asarray(operand, dtype) for operand in operands]


def reach(taps: Taps) -> int:
  """The largest row or column offset among the taps."""
  return max(_reach(taps))


def _reach(taps: Taps) -> tuple[int, int]:
  return max(abs(dy) for dy, _ in taps), max(abs(dx) for _, dx in taps)


def _opposite(taps: Taps) -> Taps:
  return tuple((-dy, -dx) for dy, dx in taps)


def _pad(image, rows, columns):
  return jnp.pad(image, ((0, 0),) * 3 + (rows, columns))


# Lowerings. On a CPU a convolution is a sum of shifted, scaled images, which XLA makes one vectorised loop over pixels
# on all cores, and a weight gradient is one matrix product over the pixels; accelerators have a convolution unit.


def _shifts(taps: Taps) -> tuple[list[int], list[int]]:
  """The different row shifts and column shifts of the taps, ascending."""
  rows, columns = (sorted(set(shifts)) for shifts in zip(*taps, strict=True))
  return rows, columns


def _grid(taps: Taps, dtype) -> np.ndarray:
  """`[T, rows, columns]`, one where the tap has that row shift and that column shift: a gather as a product, which XLA
  compiles faster."""
  rows, columns = (np.array(shifts) for shifts in _shifts(taps))
  offsets = np.array(taps)
  return ((offsets[:, :1, None] == rows[:, None]) & (offsets[:, 1:, None] == columns)).astype(dtype)


def _on_its_own(function, *operands):
  """`function(*operands)` as a call that XLA does not inline: it would merge it into its consumers, and each would
  repeat it. An optimisation barrier is gone before XLA merges."""
  with set_xla_metadata(inlineable="false"):
    return jax.jit(function)(*operands)


def _convolve_by_shifts(image, kernel, *, taps):
  groups, batch, channels, height, width = image.shape
  shape = (groups, batch, kernel.shape[2], height, width)
  small = height * width < _LEAST_PIXELS and groups == 1  # of groups the library makes long and slow programs
  if len(taps) * channels > _MOST_TERMS or small:
    return _convolve_by_library(image, kernel, taps=taps)
  reach_y, reach_x = _reach(taps)

  def shifted_sums(padded, kernel):
    sums = []
    for tap, (dy, dx) in enumerate(taps):
      for channel in range(channels):
        start = (0, 0, channel, reach_y + dy, reach_x + dx)
        shifted = lax.slice(padded, start, (groups, batch, channel + 1, start[3] + height, start[4] + width))
        term = lax.broadcast_in_dim(kernel[:, tap, :, channel], shape, (0, 2)) * lax.broadcast_in_dim(
          lax.squeeze(shifted, (2,)), shape, (0, 1, 3, 4)
        )
        sums.append(sums[-_CHAINS] + term if len(sums) >= _CHAINS else term)
    return functools.reduce(operator.add, sums[-_CHAINS:])

  return _on_its_own(shifted_sums, _pad(image, (reach_y, reach_y), (reach_x, reach_x)), kernel)


def _convolve_by_library(image, kernel, *, taps):
  reach_y, reach_x = _reach(taps)
  square = np.stack(np.mgrid[-reach_y : reach_y + 1, -reach_x : reach_x + 1], axis=-1)
  chosen = np.all(np.array(taps)[:, None, None] == square, axis=-1)  # a scatter as a product

  def one_group(image, kernel):
    dense = jnp.einsum("tyx,toc->yxoc", chosen.astype(kernel.dtype), kernel, precision=_EXACT)
    return lax.conv_general_dilated(
      image,
      dense,
      window_strides=(1, 1),
      padding=((reach_y, reach_y), (reach_x, reach_x)),
      dimension_numbers=("NCHW", "HWOI", "NCHW"),
      precision=_EXACT,
    )

  return jax.vmap(one_group)(image, kernel)


def _correlate_by_product(image, cotangent, *, taps):
  # K[dy, dx, o, c] = sum_{r, x} cotangent[o, r - dy, x] * image[c, r, x + dx]: the row shifts on one side and the
  # column shifts on the other, so that few copies make every pair; pairs that are no tap are dropped.
  groups, _, channels, height, width = image.shape
  outputs = cotangent.shape[2]
  rows, columns = _shifts(taps)
  reach_y, reach_x = _reach(taps)

  # Both are padded as a convolution pads them, which shares it. A row then ends in zeros of the cotangent, so that a
  # shift along it may run on into the next: what it meets there counts for nothing.
  reach_y = max(reach_y, min(reach_x, 1))
  padding = (reach_y, reach_y), (reach_x, reach_x)
  cotangent, image = _pad(cotangent, *padding), _pad(image, *padding)
  wide = width + 2 * reach_x

  def products(top, bottom):  # of a strip; explicit matrices, since a product over several axes is slow
    flat = image.reshape(*image.shape[:3], -1)
    first, last = (reach_y + top) * wide, (reach_y + bottom) * wide
    left = [cotangent[..., reach_y + top - dy : reach_y + bottom - dy, :] for dy in rows]
    left = jnp.concatenate([part.reshape(*part.shape[:3], -1) for part in left], axis=2)
    right = jnp.concatenate([flat[..., first + dx : last + dx] for dx in columns], axis=2)
    # One product for each image, then their sum: a batch that devices share out is a batch here too.
    each = lax.dot_general(left, right, (((3,), (3,)), ((0, 1), (0, 1))), precision=_EXACT)
    return jnp.sum(each, axis=1)

  strips = min(_MOST_STRIPS, -(-height * width // _STRIP_PIXELS))
  edges = [height * strip // strips for strip in range(strips + 1)]
  total = functools.reduce(
    operator.add, (products(top, bottom) for top, bottom in itertools.pairwise(edges) if bottom > top)
  )
  total = total.reshape(groups, len(rows), outputs, len(columns), channels)
  return jnp.einsum("tyx,gyoxc->gtoc", _grid(taps, total.dtype), total, precision=_EXACT)


# Derivatives: each transposition of a bilinear primitive is the other one, or itself on opposite taps.


def _convolve_image_transpose(cotangent, _, kernel, *, taps):
  return _convolve_p.bind(cotangent, kernel.swapaxes(-1, -2), taps=_opposite(taps))


def _convolve_kernel_transpose(cotangent, image, _, *, taps):
  return _correlate_p.bind(image, cotangent, taps=taps)


def _correlate_image_transpose(kernel, _, cotangent, *, taps):
  return _convolve_p.bind(cotangent, kernel.swapaxes(-1, -2), taps=_opposite(taps))


def _correlate_cotangent_transpose(kernel, image, _, *, taps):
  return _convolve_p.bind(image, kernel, taps=taps)


# Batching: an operand that alone is batched goes into an existing axis; two batched operands are more groups.


def _fold(operand, into: int):
  """Merges the leading axis into axis `into` of what remains, as its slower part."""
  operand = jnp.moveaxis(operand, 0, into)
  return operand.reshape(*operand.shape[:into], -1, *operand.shape[into + 2 :])


def _unfold(operand, axis: int, size: int):
  operand = operand.reshape(*operand.shape[:axis], size, -1, *operand.shape[axis + 1 :])
  return jnp.moveaxis(operand, axis, 0)


def _batching_rule(primitive, first_into: int, first_out: int, second_into: int, second_out: int):
  def rule(operands, axes, *, taps):
    size = next(operand.shape[axis] for operand, axis in zip(operands, axes, strict=True) if axis is not None)
    first, second = (
      operand if axis is None else jnp.moveaxis(operand, axis, 0) for operand, axis in zip(operands, axes, strict=True)
    )
    if axes[1] is None:
      first, out = _fold(first, first_into), first_out
    elif axes[0] is None:
      second, out = _fold(second, second_into), second_out
    else:
      first, second, out = _fold(first, 0), _fold(second, 0), 0
    return _unfold(primitive.bind(first, second, taps=taps), out, size), 0

  return rule


def _define(name, shape_of, lowerings, transposes, batching_axes):
  primitive = Primitive(name)
  primitive.def_abstract_eval(
    lambda first, second, *, taps: jax.core.ShapedArray(shape_of(first, second, taps), first.dtype)
  )
  primitive.def_impl(jax.jit(primitive.bind, static_argnames="taps"))
  for platform, implementation in lowerings.items():
    mlir.register_lowering(primitive, mlir.lower_fun(implementation, multiple_results=False), platform=platform)
  ad.defbilinear(primitive, *transposes)
  batching.primitive_batchers[primitive] = _batching_rule(primitive, *batching_axes)
  return primitive


# Shapes with groups: image [G, B, C, H, W], kernel [G, T, O, C], cotangent and result [G, B, O, H, W].
_convolve_p = _define(
  "ruas_convolve",
  lambda image, kernel, taps: (*image.shape[:2], kernel.shape[2], *image.shape[3:]),
  {None: _convolve_by_library, "cpu": _convolve_by_shifts},
  (_convolve_image_transpose, _convolve_kernel_transpose),
  (1, 1, 2, 2),
)
_correlate_p = _define(
  "ruas_correlate",
  lambda image, cotangent, taps: (image.shape[0], len(taps), cotangent.shape[2], image.shape[2]),
  {None: _correlate_by_product},
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
