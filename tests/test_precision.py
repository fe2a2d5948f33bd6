"""An accelerator's arithmetic, as the benchmark emulates it: compared with its definition in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.precision.emulation import ARITHMETICS, computed_in
from ruas_jax.convolution.primitives import convolve, correlate
from ruas_jax.lowlight.network import _PRECISIONS

TAPS = ((0, 0), (-1, 2))
EMULATED = [name for name, arithmetic in ARITHMETICS.items() if arithmetic.rounding]


def rounded(numbers, bits):
  """Float32 to this number of explicit bits, to nearest even, by its definition: the last kept bit is a unit."""
  fraction, exponent = np.frexp(np.asarray(numbers, np.float64))
  return np.ldexp(np.round(np.ldexp(fraction, bits + 1)), exponent - bits - 1)


def products(multiply, first, second, rounding):
  """The sum of the products of parts, in float64."""
  parts = []
  for operand in (first, second):
    left, of_operand = np.asarray(operand, np.float64), []
    for _ in range(rounding.parts):
      of_operand.append(rounded(left, rounding.bits))
      left = left - of_operand[-1]
    parts.append(of_operand)
  pairs = itertools.product(*map(enumerate, parts))
  return sum(multiply(one, other) for (i, one), (j, other) in pairs if i + j < rounding.parts)


def shifted(image, tap):
  height, width = image.shape[2:]
  padded = np.pad(image, ((0, 0), (0, 0), (2, 2), (2, 2)))
  return padded[:, :, 2 + tap[0] : 2 + tap[0] + height, 2 + tap[1] : 2 + tap[1] + width]


def plain_convolve(image, kernel, taps=TAPS):
  return sum(np.einsum("oc,bcyx->boyx", kernel[t], shifted(image, tap)) for t, tap in enumerate(taps))


def plain_correlate(image, cotangent):
  return np.stack([np.einsum("boyx,bcyx->oc", cotangent, shifted(image, tap)) for tap in TAPS])


def normal(*shape):
  return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", EMULATED)
def test_a_bias_is_added_exactly(name):
  arithmetic = ARITHMETICS[name]
  image, kernel, bias, cotangent = normal(1, 2, 6, 7), normal(2, 3, 2), normal(3), normal(1, 3, 6, 7)

  def convolved(bias):
    return convolve(image, kernel, TAPS, bias, precision=_PRECISIONS[arithmetic.option])

  with computed_in(arithmetic):
    value, pull_back = jax.vjp(convolved, bias)
    np.testing.assert_allclose(
      value - convolved(np.zeros(3, np.float32)), np.broadcast_to(bias[:, None, None], value.shape), atol=2e-6
    )
    np.testing.assert_allclose(pull_back(cotangent)[0], cotangent.sum((0, 2, 3)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", EMULATED)
def test_products_and_derivatives_are_of_rounded_operands(name):
  """Each derivative is computed from the operands, not from rounded ones, and rounds its operands itself."""
  arithmetic = ARITHMETICS[name]
  precision = _PRECISIONS[arithmetic.option]
  image, kernel, cotangent = normal(1, 2, 6, 7), normal(2, 3, 2), normal(1, 3, 6, 7) + np.float32(0.1)

  def everything(image, kernel, cotangent):
    value, pull_back = jax.vjp(lambda *at: convolve(*at, TAPS, precision=precision), image, kernel)
    return value, *pull_back(cotangent), correlate(image, cotangent, TAPS, precision=precision)

  with computed_in(arithmetic):
    found = jax.jit(everything)(image, kernel, cotangent)
  opposite = tuple((-dy, -dx) for dy, dx in TAPS)
  by_image = products(
    lambda one, other: plain_convolve(one, other.swapaxes(1, 2), opposite), cotangent, kernel, arithmetic.rounding
  )
  by_kernel = products(plain_correlate, image, cotangent, arithmetic.rounding)
  expected = products(plain_convolve, image, kernel, arithmetic.rounding), by_image, by_kernel, by_kernel
  exact = jax.jit(everything)(image, kernel, cotangent)  # after the context
  for values, of_definition, others in zip(found, expected, exact, strict=True):
    np.testing.assert_allclose(values, of_definition, rtol=0, atol=5e-7 * np.abs(of_definition).max())
    assert np.abs(values - others).max() > 1e-6 * np.abs(others).max()


def test_exact_products_and_float64_are_not_rounded():
  image, kernel = normal(1, 2, 6, 7), normal(2, 3, 2)
  compute = lambda *at: (convolve(*at, TAPS), convolve(*at, TAPS, precision=jax.lax.Precision.DEFAULT))
  with computed_in(ARITHMETICS["fast, TPU"]):
    exact, fast = jax.jit(compute)(image, kernel)
    with jax.enable_x64(True):
      double = jax.jit(compute)(*(jnp.asarray(x, jnp.float64) for x in (image, kernel)))
  reference = plain_convolve(image.astype(np.float64), kernel.astype(np.float64))
  np.testing.assert_allclose(exact, reference, atol=2e-6)
  assert np.abs(fast - reference).max() > 1e-3
  for values in double:
    np.testing.assert_allclose(values, reference, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("bits", "number", "expected"), [(7, 1 + 2**-8, 1.0), (7, 1 + 3 * 2**-8, 1 + 2**-6),
                                                          (10, 1 + 2**-11, 1.0), (10, -3 - 2**-10, -3.0)])  # fmt: skip
def test_halves_are_rounded_to_even(bits, number, expected):
  assert rounded(np.float32(number), bits) == expected
  assert jax.lax.reduce_precision(jnp.float32(number), 8, bits) == expected
