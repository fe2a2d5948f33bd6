"""The few-channel convolution and its weight gradient: values, derivatives, batching, lowerings, precision. Everything
holds in the compiled form and in XLA's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ruas_jax.convolution import native, xla_forms
from ruas_jax.convolution.primitives import convolve, correlate, identity_taps, square_taps

pytestmark = pytest.mark.usefixtures("x64_module", "of_any_size", "form")

UNEVEN = ((-1, 0), (0, 2), (2, -1))  # no symmetry that could hide a flipped sign
SHAPES = {  # image [B, C, H, W], outputs, taps
  "dilated": ((2, 3, 5, 6), 4, square_taps(3, 2)),
  "uneven": ((1, 4, 6, 5), 2, UNEVEN),
  "few_terms": ((2, 2, 5, 4), 3, square_taps(3)),
  "one_tap": ((1, 7, 4, 4), 3, identity_taps),
  "taps_beyond_the_image": ((1, 3, 3, 3), 2, (*square_taps(3, 2), (4, 0), (0, -5))),
  "several_strips": ((2, 3, 11, 3), 2, square_taps(3, 2)),
  "many_terms": ((1, 29, 4, 3), 2, square_taps(3)),
}


@pytest.fixture(scope="module")
def of_any_size():
  """Large images' lowering on small ones."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(xla_forms, "_LEAST_PIXELS", 0)
    yield


@pytest.fixture(scope="module", params=["native", "xla"])
def form(request):
  """The form that a CPU runs."""
  if request.param == "xla":
    request.getfixturevalue("xla_convolution")
  elif not native.form().native:
    pytest.skip(f"needs the compiled convolution, and there is none: {native.form().about}")
  return request.param


def operands(shape, outputs, taps, seed=0):
  """An image, a kernel, and a cotangent of their convolution."""
  rng = np.random.default_rng(seed)
  sizes = shape, (len(taps), outputs, shape[1]), (shape[0], outputs, *shape[2:])
  return tuple(rng.normal(size=size) for size in sizes)


def shifted(image, dy, dx):
  """`image[..., y + dy, x + dx]`, zero outside."""
  height, width = image.shape[-2:]
  result = np.zeros_like(image)
  for y in range(height):
    for x in range(width):
      if 0 <= y + dy < height and 0 <= x + dx < width:
        result[..., y, x] = image[..., y + dy, x + dx]
  return result


def convolve_by_definition(image, kernel, taps):
  return sum(np.einsum("oc,bchw->bohw", kernel[t], shifted(image, *tap)) for t, tap in enumerate(taps))


def correlate_by_definition(image, cotangent, taps):
  return np.stack([np.einsum("bohw,bchw->oc", cotangent, shifted(image, *tap)) for tap in taps])


@pytest.mark.parametrize("name", SHAPES)
def test_both_are_their_definitions(name, monkeypatch):
  """At every pixel, so at the borders too."""
  shape, _, taps = SHAPES[name]
  image, kernel, cotangent = operands(*SHAPES[name])
  written_out = len(taps) * shape[1] <= xla_forms._MOST_TERMS
  assert written_out == (name != "many_terms"), "both ways of convolving are to be covered"
  if name == "several_strips":
    monkeypatch.setattr(xla_forms, "_STRIP_PIXELS", 9)
  call = (lambda function: function) if name == "uneven" else jax.jit
  convolved = call(functools.partial(convolve, taps=taps))(image, kernel)
  np.testing.assert_allclose(convolved, convolve_by_definition(image, kernel, taps), rtol=0, atol=1e-12)
  correlated = call(functools.partial(correlate, taps=taps))(image, cotangent)
  np.testing.assert_allclose(correlated, correlate_by_definition(image, cotangent, taps), rtol=0, atol=1e-11)


WINDOWS = {  # over one channel
  "rows": ((2, 1, 5, 6), 1, ((0, -2), (0, 0), (0, 1))),
  "columns": ((2, 1, 5, 6), 1, ((7, 0), (-1, 0))),
}


@pytest.mark.parametrize("shape", (SHAPES | WINDOWS).values(), ids=SHAPES | WINDOWS)
def test_other_platforms_compute_the_same(shape):
  *_, taps = shape
  image, kernel, _ = operands(*shape)
  other = jax.jit(functools.partial(xla_forms.convolve_on_accelerator, taps=taps))(image[None], kernel[None])[0]
  np.testing.assert_allclose(other, convolve_by_definition(image, kernel, taps), rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["fwd", "rev"])
@pytest.mark.parametrize("name", ["convolve", "correlate"])
def test_first_and_second_derivatives(name, mode):
  """In both operands; the function is bilinear, so central differences are exact but for rounding."""
  image, kernel, cotangent = operands((1, 2, 3, 4), 2, UNEVEN)
  function, second = {"convolve": (convolve, kernel), "correlate": (correlate, cotangent)}[name]
  # a square on top, or else the second derivatives in one operand would be zero
  value = jax.jit(lambda first, second: jnp.square(function(first, second, UNEVEN)))
  check_grads(value, (image, second), order=2, modes=[mode], atol=1e-6, rtol=1e-6, eps=1e-4)


def test_derivatives_are_the_other_primitive():
  """Whatever the order and mode, no other convolution appears."""
  image, kernel, cotangent = operands((1, 2, 3, 4), 2, UNEVEN)

  def loss(image, kernel):
    return jnp.sum(jnp.tanh(convolve(image, kernel, UNEVEN)) * cotangent)

  def third(image, kernel):
    inner = jax.grad(lambda k: jnp.sum(jax.grad(loss)(image, k) ** 2))
    return jax.jvp(inner, (kernel,), (kernel,))[1]

  program = str(jax.make_jaxpr(third)(image, kernel))
  assert "ruas_convolve" in program and "ruas_correlate" in program
  assert "conv_general" not in program and "dot_general" not in program


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (2, None), (None, 1), (3, 1)], ids=str)
@pytest.mark.parametrize("name", ["convolve", "correlate"])
def test_vmap(name, axes):
  """Over the first operand, the second, both, on any axis; and over both of a batch of groups."""
  function = {"convolve": convolve, "correlate": correlate}[name]
  examples = [operands((2, 2, 4, 3), 3, UNEVEN, seed) for seed in range(3)]
  choose = lambda seed: (examples[seed][0], examples[seed][1 if name == "convolve" else 2])
  call = functools.partial(function, taps=UNEVEN)
  pick = [[choose(seed if axis is not None else 0)[i] for seed in range(3)] for i, axis in enumerate(axes)]
  stacked = [each[0] if axis is None else np.stack(each, axis) for each, axis in zip(pick, axes, strict=True)]
  expected = np.stack([call(first, second) for first, second in zip(*pick, strict=True)])
  np.testing.assert_allclose(jax.jit(jax.vmap(call, axes))(*stacked), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["convolve", "correlate"])
def test_nested_vmap(name):
  """Groups within groups: a grid of images against a grid of kernels."""
  function = {"convolve": convolve, "correlate": correlate}[name]
  images = np.stack([operands((1, 2, 4, 3), 3, UNEVEN, seed)[0] for seed in range(2)])
  seconds = np.stack([operands((1, 2, 4, 3), 3, UNEVEN, seed)[1 if name == "convolve" else 2] for seed in range(6)])
  seconds = seconds.reshape(2, 3, *seconds.shape[1:])
  call = functools.partial(function, taps=UNEVEN)
  grid = jax.vmap(jax.vmap(call, (None, 0)))(images, seconds)
  both = jax.vmap(jax.vmap(call))(np.repeat(images[:, None], 3, axis=1), seconds)
  expected = [[call(image, second) for second in row] for image, row in zip(images, seconds, strict=True)]
  np.testing.assert_allclose(grid, expected, rtol=0, atol=1e-12)
  np.testing.assert_allclose(both, expected, rtol=0, atol=1e-12)


AXES = [(None, None, None), (0, None, None), (None, 0, 0), (None, None, 0), (None, 0, None), (0, None, 0), (1, 2, 1)]


@pytest.mark.parametrize("axes", AXES, ids=str)
def test_a_bias_is_added_to_every_pixel(axes):
  """Its value, first and second derivatives in all operands are those of a separate addition, also under vmap."""
  image, kernel, cotangent = operands((2, 2, 4, 3), 3, UNEVEN)
  bias = np.random.default_rng(1).normal(size=3)
  rng = np.random.default_rng(2)
  stacked = [
    operand if axis is None else np.stack([operand + rng.normal(size=operand.shape) for _ in range(2)], axis)
    for operand, axis in zip((image, kernel, bias), axes, strict=True)
  ]

  def of_added(image, kernel, bias):
    return convolve(image, kernel, UNEVEN) + bias[None, :, None, None]

  def derivatives(function):
    def of_each(*operands):
      loss = lambda *operands: jnp.sum(jnp.sin(function(*operands)) * cotangent)
      gradient = jax.grad(loss, (0, 1, 2))
      length = lambda *operands: sum(jnp.sum(part**2) for part in gradient(*operands))
      return function(*operands), gradient(*operands), jax.grad(length, (0, 1, 2))(*operands)

    mapped = of_each if axes == (None,) * 3 else jax.vmap(of_each, axes)
    return jax.jit(mapped)(*stacked)

  with_bias = derivatives(lambda image, kernel, bias: convolve(image, kernel, UNEVEN, bias))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-11), with_bias, derivatives(of_added))


@pytest.mark.parametrize("mode", ["fwd", "rev"])
@pytest.mark.parametrize("argument", [0, 1, 2])
def test_a_constant_operand_has_no_derivative(argument, mode):
  """With a bias, in one operand alone."""
  image, kernel, _ = operands((1, 2, 3, 4), 2, UNEVEN)
  given = [image, kernel, np.array([0.3, -0.7])]

  def value(operand):
    image, kernel, bias = (*given[:argument], operand, *given[argument + 1 :])
    return jnp.square(convolve(image, kernel, UNEVEN, bias))

  check_grads(jax.jit(value), (given[argument],), order=2, modes=[mode], atol=1e-6, rtol=1e-6, eps=1e-4)


def test_gradient_under_vmap():
  """A gradient for every kernel, as per-example and population training take it."""
  image, _, cotangent = operands((1, 2, 4, 3), 2, UNEVEN)
  kernels = np.stack([operands((1, 2, 4, 3), 2, UNEVEN, seed)[1] for seed in range(3)])
  gradient = jax.grad(lambda image, kernel: jnp.sum(convolve(image, kernel, UNEVEN) ** 2 * cotangent), argnums=(0, 1))
  batched = jax.jit(jax.vmap(gradient, (None, 0)))(image, kernels)
  for position, kernel in enumerate(kernels):
    for one, expected in zip(batched, gradient(image, kernel), strict=True):
      np.testing.assert_allclose(one[position], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["dilated", "few_terms"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtype_is_kept(name, dtype):
  taps = SHAPES[name][2]
  exact = operands(*SHAPES[name])
  image, kernel, cotangent = (jnp.asarray(operand, dtype) for operand in exact)
  error = {"float32": 1e-5, "bfloat16": 0.5}[dtype]
  convolved, correlated = convolve(image, kernel, taps), correlate(image, cotangent, taps)
  assert convolved.dtype == correlated.dtype == dtype
  np.testing.assert_allclose(np.float64(convolved), convolve_by_definition(*exact[:2], taps), rtol=0, atol=error)
  np.testing.assert_allclose(
    np.float64(correlated), correlate_by_definition(exact[0], exact[2], taps), rtol=0, atol=error
  )
  gradients = jax.grad(lambda *operands: jnp.sum(convolve(*operands, taps).astype(jnp.float32)), (0, 1))(image, kernel)
  assert {gradient.dtype for gradient in gradients} == {jnp.dtype(dtype)}


def test_operands_of_two_dtypes_meet_in_the_wider():
  image, kernel, cotangent = operands(*SHAPES["uneven"])
  assert convolve(jnp.float32(image), kernel, UNEVEN).dtype == jnp.float64
  assert correlate(image, jnp.float32(cotangent), UNEVEN).dtype == jnp.float64


def test_precision_is_float32_on_every_platform():
  """Products of float32 are never left to a platform's default precision (TF32, bfloat16)."""
  image, kernel, cotangent = (jnp.float32(operand)[None] for operand in operands(*SHAPES["dilated"]))
  taps = SHAPES["dilated"][2]
  for lowering, second in (
    (xla_forms.convolve_by_library, kernel),
    (xla_forms.correlate_by_product, cotangent),
  ):
    program = jax.jit(functools.partial(lowering, taps=taps)).lower(image, second).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line or "stablehlo.convolution" in line]
    assert products and all("HIGHEST" in line for line in products)


def test_a_convolution_is_computed_once(form):
  """However many consumers it has, into which the compiler would merge it."""
  taps = square_taps(3)
  image, kernel, _ = (jnp.float32(operand) for operand in operands((1, 2, 32, 32), 4, taps))

  def program(image, kernel):
    convolved = convolve(image, kernel, taps)
    return jnp.roll(convolved, 1, 2) + 1, jnp.roll(convolved, 1, 3) - 1

  compiled = jax.jit(program).lower(image, kernel).compile().as_text()
  if form == "native":
    assert compiled.count('custom_call_target="ruas_convolve"') == 1
  else:
    assert compiled.count(" multiply(") == len(taps) * 2


def test_small_images_have_a_short_program(form, monkeypatch):
  """Written out, the terms of a search's convolutions take longer to compile than a small image to search on."""
  if form == "native":
    pytest.skip("the compiled form's program is short whatever the size")
  taps = square_taps(3, 2)
  image, kernel, _ = operands((1, 3, 5, 6), 4, taps)
  lines = {}
  for least in (0, 31):
    monkeypatch.setattr(xla_forms, "_LEAST_PIXELS", least)
    lowered = jax.jit(lambda image, kernel: convolve(image, kernel, taps)).lower(image, kernel)
    lines[least] = len(lowered.as_text().splitlines())
    np.testing.assert_allclose(
      lowered.compile()(image, kernel), convolve_by_definition(image, kernel, taps), atol=1e-12
    )
  assert 2 * lines[31] < lines[0]


def test_shapes_that_do_not_fit_are_refused():
  image, kernel, _ = operands(*SHAPES["uneven"])
  for bad in (
    (image[0], kernel, UNEVEN),
    (image, kernel[:2], UNEVEN),
    (image, kernel[..., :1], UNEVEN),
    (image, kernel[0], UNEVEN),
  ):
    with pytest.raises(ValueError, match="convolve needs image"):
      convolve(*bad)


def test_square_taps_go_row_by_row():
  assert square_taps(1, 3) == identity_taps
  assert square_taps(3, 2) == ((-2, -2), (-2, 0), (-2, 2), (0, -2), (0, 0), (0, 2), (2, -2), (2, 0), (2, 2))
