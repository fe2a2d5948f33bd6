"""The compiled convolution against XLA's, which is the oracle: shapes, values that are not finite, threads, vectors,
and what happens where it cannot run."""

import concurrent.futures
import functools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ruas_jax.convolution import native, xla_forms
from ruas_jax.convolution.primitives import convolve, correlate, identity_taps, square_taps

ROOT = pathlib.Path(__file__).resolve().parents[1]
SEARCH_TAPS = tuple(sorted({*square_taps(3), *square_taps(3, 2)}))
SHAPES = {  # groups, images [B, C, H, W], outputs, taps
  "one_pixel": (1, (1, 1, 1, 1), 1, SEARCH_TAPS),
  "tall": (1, (1, 2, 5000, 3), 3, SEARCH_TAPS),
  "wide": (1, (1, 3, 3, 5000), 2, square_taps(3)),
  "as_in_a_search": (1, (1, 7, 64, 67), 14, SEARCH_TAPS),
  "several_strips": (1, (3, 3, 90, 130), 6, SEARCH_TAPS),
  "groups": (3, (2, 5, 9, 25), 7, square_taps(3, 2)),
  "many_channels": (1, (1, 64, 6, 29), 33, square_taps(3)),
  "every_pixel_by_itself": (2, (2, 28, 31, 47), 7, identity_taps),
  "far_taps": (1, (1, 2, 4, 5), 2, ((-7, 0), (0, 9), (3, -2))),
}

pytestmark = pytest.mark.usefixtures("built")


@pytest.fixture(scope="session")
def built():
  if not native.form().native:
    pytest.skip(f"needs the compiled convolution, and there is none: {native.form().about}")


def operands(name, dtype):
  """Image, kernel and cotangent, each with its axis of groups."""
  groups, shape, outputs, taps = SHAPES[name]
  rng = np.random.default_rng(len(name))
  sizes = (groups, *shape), (groups, len(taps), outputs, shape[1]), (groups, shape[0], outputs, *shape[2:])
  return tuple(rng.normal(size=size).astype(dtype) for size in sizes)


def largest_error(name, dtype):
  """Of both primitives: the largest difference to the oracle in float64, over the largest sum of absolute products."""
  taps = SHAPES[name][3]
  image, kernel, cotangent = operands(name, dtype)
  errors = []
  for function, form, second in (
    (convolve, xla_forms.convolve_by_library, kernel),
    (correlate, xla_forms.correlate_by_product, cotangent),
  ):
    with jax.enable_x64(True):
      ours = jax.jit(jax.vmap(functools.partial(function, taps=taps)))(image, second)
      oracle = jax.jit(functools.partial(form, taps=taps))
      exact, scale = oracle(*map(np.float64, (image, second))), oracle(*map(np.abs, (image, second)))
    ours, exact, scale = map(np.asarray, (ours, exact, scale))
    assert ours.dtype == dtype and ours.shape == exact.shape
    errors.append(float(np.max(np.abs(ours - exact)) / np.max(scale)))
  return max(errors)


@pytest.mark.parametrize("dtype, bar", [("float64", 1e-15), ("float32", 1e-6)])
@pytest.mark.parametrize("name", SHAPES)
def test_it_computes_what_xla_computes(name, dtype, bar):
  assert largest_error(name, dtype) <= bar


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (1, 3, 0, 8), (1, 3, 8, 0)])
def test_where_there_is_no_pixel_there_is_no_sum(shape):
  image, kernel, cotangent = jnp.ones(shape), jnp.ones((9, 4, 3)), jnp.ones((shape[0], 4, *shape[2:]))
  assert convolve(image, kernel, square_taps(3)).shape == cotangent.shape
  np.testing.assert_array_equal(correlate(image, cotangent, square_taps(3)), np.zeros((9, 4, 3)))


def shifted(image, dy, dx):
  """`image[..., y + dy, x + dx]`, zero outside."""
  padded = np.pad(image, [(0, 0)] * (image.ndim - 2) + [(2, 2), (2, 2)])
  height, width = image.shape[-2:]
  return padded[..., 2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row, column", [(0, 0), (5, 31), (8, 36), (3, 0), (8, 12)])
def test_what_is_not_finite_reaches_as_far_as_its_products(bad, row, column):
  """In corners, at borders, and where one vector of pixels ends and the next begins."""
  rng = np.random.default_rng(0)
  image, kernel, cotangent = (rng.uniform(0.5, 1, size) for size in ((1, 2, 9, 37), (17, 3, 2), (1, 3, 9, 37)))
  image[0, 1, row, column] = bad
  image, kernel, cotangent = (np.float32(operand) for operand in (image, kernel, cotangent))
  expected = sum(np.einsum("oc,bchw->bohw", kernel[t], shifted(image, *tap)) for t, tap in enumerate(SEARCH_TAPS))
  np.testing.assert_allclose(convolve(image, kernel, SEARCH_TAPS), expected, rtol=1e-5)
  expected = np.stack([np.einsum("bohw,bchw->oc", cotangent, shifted(image, *tap)) for tap in SEARCH_TAPS])
  np.testing.assert_allclose(correlate(image, cotangent, SEARCH_TAPS), expected, rtol=1e-5)


def test_calls_of_many_threads_do_not_meet():
  """More calls at a time than there are threads to share their work; every one has the bits of a call alone."""
  image, kernel, cotangent = (operand[0] for operand in operands("as_in_a_search", "float32"))

  @jax.jit
  def both(scale):
    return convolve(scale * image, kernel, SEARCH_TAPS), correlate(scale * image, cotangent, SEARCH_TAPS)

  alone = [jax.device_get(both(np.float32(scale))) for scale in range(4)]
  with concurrent.futures.ThreadPoolExecutor(8) as threads:
    for index, found in enumerate(threads.map(lambda i: jax.device_get(both(np.float32(i % 4))), range(64))):
      jax.tree.map(np.testing.assert_array_equal, found, alone[index % 4])


def run(program, **environment):
  """What the program prints, in a process of its own."""
  paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
  environment = os.environ | {"PYTHONPATH": paths} | environment
  done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return done.stdout.split("\n")[:-1]


BITS = """
import hashlib, jax, test_native as t
image, kernel, cotangent = (operand[0] for operand in t.operands("several_strips", "float32"))
taps = t.SHAPES["several_strips"][3]
digest = hashlib.sha256(jax.device_get(t.convolve(image, kernel, taps)).tobytes())
digest.update(jax.device_get(t.correlate(image, cotangent, taps)).tobytes())
print(digest.hexdigest())
"""


def test_the_bits_do_not_depend_on_how_many_threads_there_are():
  cores = sorted(os.sched_getaffinity(0))
  if len(cores) < 2:
    pytest.skip("needs two cores")
  assert run(f"import os; os.sched_setaffinity(0, {cores[:1]})\n{BITS}") == run(BITS)


def test_vectors_that_every_processor_has_compute_the_same():
  program = """
import test_native as t
print(t.native.form())
print(max(t.largest_error(name, 'float32') for name in t.SHAPES))
"""
  form, error = run(program, RUAS_JAX_NATIVE="plain")
  assert form == "native, plain vectors" and float(error) <= 1e-6


def test_it_can_be_turned_off():
  program = """
import jax, jax.numpy as jnp
from ruas_jax.convolution import native, primitives
print(native.form())
call = jax.jit(lambda image, kernel: primitives.convolve(image, kernel, ((0, 0),)))
print("ruas_convolve" in call.lower(jnp.ones((1, 1, 4, 4)), jnp.ones((1, 1, 1))).as_text())
"""
  assert run(program, RUAS_JAX_NATIVE="off") == ["XLA (RUAS_JAX_NATIVE=off)", "False"]
  assert run(program)[1] == "True"


def test_a_library_that_does_not_fit_is_found_when_it_is_loaded(tmp_path, monkeypatch):
  load = native.form.__wrapped__
  monkeypatch.setattr(native, "_ffi_version", lambda: 0)
  assert not load().native and "later jaxlib" in load().about
  damaged = tmp_path / "libruas_convolution.so"
  monkeypatch.setattr(native, "LIBRARY", damaged)
  assert not load().native and "not built" in load().about
  damaged.write_bytes(b"no library")
  assert not load().native and "does not load" in load().about


def test_other_dtypes_and_images_on_several_devices_are_left_to_xla():
  """A call to compiled code would bring all images to one device."""
  call = jax.jit(functools.partial(convolve, taps=SEARCH_TAPS))
  image, kernel = jnp.ones((2, 3, 8, 8)), jnp.ones((17, 4, 3))
  assert "ruas_convolve" in call.lower(image, kernel).as_text()
  assert "ruas_convolve" not in call.lower(image.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)).as_text()
  mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
  apart = jax.device_put(image, NamedSharding(mesh, PartitionSpec("data")))
  everywhere = jax.device_put(kernel, NamedSharding(mesh, PartitionSpec()))
  assert "ruas_convolve" not in call.lower(apart, everywhere).as_text()
  np.testing.assert_allclose(call(apart, everywhere), call(image, kernel), rtol=1e-6)
