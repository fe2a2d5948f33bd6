"""An accelerator's float32 products, emulated on a CPU.

A TPU multiplies bfloat16 numbers, and a GPU's tensor cores multiply TF32 numbers; both add in float32. Each operand is
rounded to one such number, or written as a sum of several (`parts`): each is what the ones before left, rounded. The
products of parts are added, except the smallest:

    1 part:  first * second
    2 parts: high * high + high * low + low * high

This is done where a convolution or a weight gradient is lowered, so it is part of the operation: derivatives are those
of the exact operation, each computed in this arithmetic. Products of a small float32 kernel with zeros and ones stay
exact, as in the package. The operands are the same numbers in pixels and in blocks of pixels; here images stay in
pixels. An emulation shows the rounding of operands. The order of an accelerator's sums is not known.
"""

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import mlir

from ruas_jax.convolution import native, parts, primitives, xla_forms
from ruas_jax.lowlight.options import Precision

_FORMS = {
  primitives._convolve_p: primitives.with_bias(xla_forms.convolve_by_shifts),
  primitives._correlate_p: primitives.correlate_with_bias,
}
_ATTRIBUTES = {
  primitives._convolve_p: native.convolve_attributes,
  primitives._correlate_p: native.correlate_attributes,
}
_EXPONENT = 8  # bits, as in float32


class Rounding(NamedTuple):
  """Attributes:
  bits: explicit bits of a number's significand.
  parts: numbers as whose sum an operand is written.
  """

  bits: int
  parts: int

  def split(self, operand: jax.Array) -> list[jax.Array]:
    parts = []
    for _ in range(self.parts):
      parts.append(lax.reduce_precision(operand, _EXPONENT, self.bits))  # rounds to nearest even
      operand = operand - parts[-1]
    return parts

  def product(self, multiply: Callable, first: jax.Array, second: jax.Array) -> jax.Array:
    """`multiply(first, second)`, which is bilinear, in this arithmetic."""
    pairs = [
      (left, right)
      for order, left in enumerate(self.split(first))
      for right in self.split(second)[: self.parts - order]
    ]
    return functools.reduce(operator.add, [multiply(*pair) for pair in pairs])


class Arithmetic(NamedTuple):
  """An arithmetic of the convolutions' products.

  Attributes:
    option: `network.precision` that chooses it.
    rounding: of the operands, or None.
    by_xla: whether sums have the order of XLA's forms instead of the compiled form's.
  """

  option: Precision
  rounding: Rounding | None = None
  by_xla: bool = False


EXACT, OTHER_ORDER = "exact", "exact, other order of sums"
ARITHMETICS = {
  EXACT: Arithmetic("exact"),
  OTHER_ORDER: Arithmetic("exact", by_xla=True),
  "high, TPU": Arithmetic("high", Rounding(bits=7, parts=2)),
  "fast, TPU": Arithmetic("fast", Rounding(bits=7, parts=1)),
  "fast, GPU": Arithmetic("fast", Rounding(bits=10, parts=1)),
}
"""By name. bfloat16 has 7 explicit bits, TF32 has 10."""


@contextlib.contextmanager
def computed_in(arithmetic: Arithmetic) -> Iterator[None]:
  """Context in which a CPU computes convolutions and weight gradients of float32 in this arithmetic, if their
  `precision` is not exact. Programs that were compiled outside are compiled anew."""
  try:
    _register(arithmetic)
    yield
  finally:
    _register(Arithmetic("exact"))


def _register(arithmetic: Arithmetic) -> None:
  for primitive in _FORMS:
    mlir.register_lowering(primitive, _rule(primitive, arithmetic), platform="cpu")
  of_parts = parts._compiled if arithmetic == Arithmetic("exact") else parts._by_definition  # of the primitives above
  mlir.register_lowering(parts._convolve_parts_p, of_parts, platform="cpu")
  jax.clear_caches()


def _rule(primitive: Primitive, arithmetic: Arithmetic) -> Callable:
  by_xla = mlir.lower_fun(_FORMS[primitive], primitive.multiple_results)
  exact = by_xla if arithmetic.by_xla else native.lowering(primitive.name, _ATTRIBUTES[primitive], otherwise=by_xla)

  def rule(context, *operands, **parameters: Any):
    is_exact = arithmetic.rounding is None or parameters["precision"] == xla_forms.EXACT
    if is_exact or context.avals_in[0].dtype != "float32":
      return exact(context, *operands, **parameters)
    form = functools.partial(_ROUNDED[primitive], arithmetic.rounding)
    return mlir.lower_fun(form, primitive.multiple_results)(context, *operands, **parameters)

  return rule


def _rounded_convolve(rounding, image, kernel, *bias, taps, precision):
  multiply = functools.partial(primitives._convolve_p.bind, taps=taps, precision=xla_forms.EXACT)
  result = rounding.product(multiply, image, kernel)
  return result + bias[0][:, None, :, None, None] if bias else result


def _rounded_correlate(rounding, image, cotangent, *, taps, precision, with_bias):
  def multiply(image, cotangent):
    return primitives._correlate_p.bind(image, cotangent, taps=taps, precision=xla_forms.EXACT, with_bias=False)[0]

  gradients = [rounding.product(multiply, image, cotangent)]
  return [*gradients, cotangent.sum((1, 3, 4))] if with_bias else gradients


_ROUNDED = {primitives._convolve_p: _rounded_convolve, primitives._correlate_p: _rounded_correlate}
