"""The convolution of parts with an activation: it is the convolution of the joined parts, however it is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ruas_jax.convolution import native
from ruas_jax.convolution.layout import ImageLayout
from ruas_jax.convolution.parts import LeakyReLU, Part, convolve_parts, divide, join, whole
from ruas_jax.convolution.primitives import convolve, identity_taps, square_taps

pytestmark = pytest.mark.usefixtures("x64_module")

RANGES = {"whole": [(0, 5)], "parts": [(1, 2), (0, 3), (4, 1)], "many": [(0, 5)] * 5}  # of arrays with five channels
TAPS = {"search": square_taps(3, 2), "pointwise": identity_taps}
ACTIVATIONS = {"none": None, "leaky": LeakyReLU(0.05), "smooth": jax.nn.softplus}


def normal(*shape):
  return np.random.default_rng(sum(shape)).normal(size=shape)


def problem(ranges, taps, images=2, height=6, width=70):
  """Arrays, a kernel and a bias."""
  channels = sum(count for _, count in ranges)
  arrays = [normal(images, 5, height, width) + index for index in range(len(ranges))]
  return arrays, normal(len(taps), 3, channels), normal(3)


def in_one_call(arrays, kernel, bias, *, ranges, taps, activation):
  parts = [Part(array, *channels) for array, channels in zip(arrays, ranges, strict=True)]
  return convolve_parts(parts, kernel, taps, bias, activation)


def by_definition(arrays, kernel, bias, *, ranges, taps, activation):
  joined = jnp.concatenate(
    [array[:, first : first + count] for array, (first, count) in zip(arrays, ranges, strict=True)], axis=1
  )
  result = convolve(joined, kernel, taps, bias)
  return result if activation is None else activation(result)


def pair(ranges, taps, activation):
  how = {"ranges": RANGES[ranges], "taps": TAPS[taps], "activation": ACTIVATIONS[activation]}
  return [lambda *operands, form=form: form(*operands, **how) for form in (in_one_call, by_definition)]


CASES = [(ranges, taps, activation) for ranges in RANGES for taps in TAPS for activation in ACTIVATIONS]


@pytest.mark.parametrize("ranges, taps, activation", CASES)
def test_the_value_has_the_same_bits(ranges, taps, activation):
  operands = problem(RANGES[ranges], TAPS[taps])
  for dtype in ("float64", "float32"):
    cast = jax.tree.map(lambda operand, dtype=dtype: operand.astype(dtype), operands)
    found, expected = (jax.jit(form)(*cast) for form in pair(ranges, taps, activation))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


def test_the_call_reads_the_parts_where_they_lie():
  if not native.form().native:
    pytest.skip(f"needs the compiled convolution: {native.form().about}")
  in_call, _ = pair("parts", "search", "leaky")
  compiled = jax.jit(in_call).lower(*problem(RANGES["parts"], TAPS["search"])).compile().as_text()
  assert compiled.count('custom_call_target="ruas_convolve"') == 1
  assert "concatenate" not in compiled and "select" not in compiled


@pytest.mark.parametrize("ranges, taps, activation", [("parts", "search", "leaky"), ("many", "pointwise", "smooth")])
def test_derivatives_are_those_of_the_definition(ranges, taps, activation):
  """Both modes, a second derivative, and derivatives with respect to some operands only."""
  operands = problem(RANGES[ranges], TAPS[taps], height=4, width=5)

  def derivatives(form):
    loss = lambda *operands: jnp.sum(jnp.sin(form(*operands)))
    gradient = jax.grad(loss, argnums=(0, 1, 2))
    directions = jax.tree.map(jnp.cos, operands)
    of_kernel = jax.jvp(lambda kernel: form(operands[0], kernel, operands[2]), operands[1:2], directions[1:2])
    return jax.jit(lambda *at: (jax.jvp(gradient, at, directions), of_kernel))(*operands)

  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12),
    *map(derivatives, pair(ranges, taps, activation)),
  )


@pytest.mark.parametrize("axes", [(0, None, None), (None, 0, None), (1, 2, 0)], ids=str)
def test_batches_are_those_of_the_definition(axes):
  arrays, kernel, bias = problem(RANGES["parts"], TAPS["search"])
  more = lambda operand, axis: operand if axis is None else np.stack([operand, 2 * operand], axis=axis)
  operands = [[more(array, axes[0]) for array in arrays], more(kernel, axes[1]), more(bias, axes[2])]
  found, expected = (jax.jit(jax.vmap(form, axes))(*operands) for form in pair("parts", "search", "leaky"))
  np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)


def test_values_that_are_not_finite_stay():
  arrays, kernel, bias = problem(RANGES["parts"], TAPS["search"])
  arrays[0][0, 1, 2, 3], arrays[1][1, 0, 4, 60] = np.nan, -np.inf
  found, expected = (jax.jit(form)(arrays, kernel, bias) for form in pair("parts", "search", "leaky"))
  assert not np.isfinite(expected).all()
  np.testing.assert_array_equal(found, expected)


def test_parts_of_an_array_and_the_array_of_parts():
  planes = jnp.asarray(normal(1, 6, 2, 3))
  assert [part[1:] for part in divide(planes, 3)] == [(0, 2), (2, 2), (4, 2)]
  np.testing.assert_array_equal(join(divide(planes, 3)), planes)
  np.testing.assert_array_equal(join([whole(planes)]), planes)


def test_layouts_mask_each_part():
  """What the mask excludes does not count, in pixels and in blocks."""
  images = [normal(1, 6, 8, 2), normal(1, 6, 8, 1)]
  kernel, bias, taps = normal(9, 4, 3), normal(4), square_taps(3)
  valid = np.zeros((1, 1, 6, 8), bool)
  valid[:, :, :5, :6] = True
  outside = [np.where(np.moveaxis(valid, 1, -1), image, np.nan) for image in images]

  def computed(layout):
    mask = layout.mask(jnp.asarray(valid), 6, 8)
    parts = [whole(layout.enter(jnp.asarray(image))) for image in outside]
    folded = layout.kernel(jnp.asarray(kernel), taps), layout.bias(jnp.asarray(bias))
    result = layout.convolve(parts, *folded, taps, mask, LeakyReLU(0.1))
    return layout.leave(result, 6, 8)[:, :5, :6]

  joined = np.concatenate(images, axis=-1)[:, :5, :6]
  dense = kernel.reshape(3, 3, 4, 3).swapaxes(-1, -2)
  expected = lax.conv_general_dilated(joined, dense, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
  expected = LeakyReLU(0.1)(expected + bias[None, None, None])
  for layout in (ImageLayout(), ImageLayout(2)):
    np.testing.assert_allclose(computed(layout), expected, rtol=1e-12, atol=1e-12)
