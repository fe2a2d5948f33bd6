"""A convolution of images that lie in several arrays, and a leaky ReLU of its result, in one call on a CPU.

    convolve_parts(parts, kernel, bias) = activation(convolve(concatenate(parts), kernel, bias))

That is how it is defined, differentiated and batched. The compiled form reads each part where it lies, and applies the
activation before it writes. So a forward pass does not copy images to join or divide them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ruas_jax.convolution import native
from ruas_jax.convolution.primitives import Taps, convolve
from ruas_jax.convolution.xla_forms import EXACT

Activation = Callable[[jax.Array], jax.Array]


class Part(NamedTuple):
  """`count` channels of `planes [B, C, H, W]`, from channel `first` on."""

  planes: jax.Array
  first: int
  count: int

  def alone(self) -> jax.Array:
    """`[B, count, H, W]`."""
    return lax.slice_in_dim(self.planes, self.first, self.first + self.count, axis=1)


class LeakyReLU(NamedTuple):
  """`max(x, slope * x)`."""

  slope: float

  def __call__(self, x: jax.Array) -> jax.Array:
    return jnp.where(x >= 0, x, self.slope * x)


def whole(planes: jax.Array) -> Part:
  """All channels."""
  return Part(planes, 0, planes.shape[1])


def divide(planes: jax.Array, into: int) -> list[Part]:
  """Equal numbers of channels, in their order."""
  count = planes.shape[1] // into
  return [Part(planes, index * count, count) for index in range(into)]


def join(parts: Sequence[Part]) -> jax.Array:
  """The parts' channels in one array."""
  return parts[0].alone() if len(parts) == 1 else jnp.concatenate([part.alone() for part in parts], axis=1)


def convolve_parts(
  parts: Sequence[Part],
  kernel: jax.Array,
  taps: Taps,
  bias: jax.Array,
  activation: Activation | None = None,
  *,
  precision: lax.Precision = EXACT,
) -> jax.Array:
  """`primitives.convolve` of the parts' channels together, and the activation of its result: `[B, O, H, W]`."""
  operands = [*(part.planes for part in parts), kernel, bias]
  how = {"ranges": tuple(part[1:] for part in parts), "taps": tuple(taps), "precision": precision}
  if not isinstance(activation, LeakyReLU | None):
    return activation(_composition(*operands, activation=None, **how))
  dtype = jnp.result_type(*operands)
  groups = [jnp.asarray(operand, dtype)[None] for operand in operands]  # one, as the call needs
  return _convolve_parts_p.bind(*groups, activation=activation, **how)[0]


def _composition(*operands, ranges, taps, activation, precision):
  """The definition."""
  *planes, kernel, bias = operands
  joined = join([Part(array, *channels) for array, channels in zip(planes, ranges, strict=True)])
  result = convolve(joined, kernel, taps, bias, precision=precision)
  return result if activation is None else activation(result)


def _of_one_group(*operands, **how):
  return _composition(*(operand[0] for operand in operands), **how)[None]


def _jvp(operands, tangents, **how):
  moving = [index for index, tangent in enumerate(tangents) if type(tangent) is not ad.Zero]

  def of_moving(*values):
    changed = dict(zip(moving, values, strict=True))
    return _of_one_group(*(changed.get(index, operand) for index, operand in enumerate(operands)), **how)

  return jax.jvp(of_moving, [operands[index] for index in moving], [tangents[index] for index in moving])


def _batch(operands, axes, **how):
  return jax.vmap(lambda *operands: _of_one_group(*operands, **how), axes)(*operands), 0


def _attributes(image, *, activation, **how):
  return native.convolve_attributes(image, slope=1.0 if activation is None else activation.slope, **how)


def _abstract(*operands, **_):
  (groups, images, _, *size), kernel = operands[0].shape, operands[-2]
  return ShapedArray((groups, images, kernel.shape[2], *size), kernel.dtype)


_convolve_parts_p = Primitive("ruas_convolve_parts")
_convolve_parts_p.def_abstract_eval(_abstract)
_convolve_parts_p.def_impl(
  jax.jit(_convolve_parts_p.bind, static_argnames=("ranges", "taps", "activation", "precision"))
)
ad.primitive_jvps[_convolve_parts_p] = _jvp
batching.primitive_batchers[_convolve_parts_p] = _batch
_by_definition = mlir.lower_fun(_of_one_group, multiple_results=False)
_compiled = native.lowering("ruas_convolve", _attributes, otherwise=_by_definition)
mlir.register_lowering(_convolve_parts_p, _by_definition)
mlir.register_lowering(_convolve_parts_p, _compiled, platform="cpu")
