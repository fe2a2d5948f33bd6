"""The compiled convolution against XLA's, which is the oracle: shapes, values that are not finite, threads, vectors,
and what happens where it cannot run."""

import concurrent.futures
import functools
import os
import pathlib
import pickle
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cpp import compile_cpp
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
  "more_channels_than_a_tile_holds": (1, (1, 40_000, 1, 2), 1, identity_taps),
  "far_taps": (1, (1, 2, 4, 5), 2, ((-7, 0), (0, 9), (3, -2))),
}

pytestmark = pytest.mark.usefixtures("built")


@pytest.fixture(scope="session")
def built():
  if not native.form().native:
    pytest.skip(f"needs the compiled convolution, and there is none: {native.form().about}")


def operands(name, dtype):
  """Image, kernel, bias and cotangent, each with its axis of groups."""
  groups, shape, outputs, taps = SHAPES[name]
  rng = np.random.default_rng(len(name))
  sizes = (
    (groups, *shape),
    (groups, len(taps), outputs, shape[1]),
    (groups, outputs),
    (groups, shape[0], outputs, *shape[2:]),
  )
  return tuple(rng.normal(size=size).astype(dtype) for size in sizes)


@functools.cache
def with_gradients(function, taps):
  """`image, kernel, bias, cotangent -> ` the convolution and its gradients in the others, in all groups."""

  def compute(image, kernel, bias, cotangent):
    result, pull = jax.vjp(functools.partial(function, taps=taps), image, kernel, bias)
    return result, *pull(cotangent)

  return jax.jit(compute)


def compiled(name, dtype):
  """The compiled convolution and its three gradients."""
  with jax.enable_x64(dtype == "float64"):
    return jax.device_get(with_gradients(in_groups, SHAPES[name][3])(*operands(name, dtype)))


def in_groups(image, kernel, bias, *, taps):
  return jax.vmap(lambda image, kernel, bias: convolve(image, kernel, taps, bias))(image, kernel, bias)


def by_library(image, kernel, bias, *, taps):
  return xla_forms.convolve_by_library(image, kernel, taps=taps) + bias[:, None, :, None, None]


@functools.cache
def oracle(name, dtype):
  """The library's convolution and its gradients in float64, and the sums of absolute products."""
  inputs = [np.float64(operand) for operand in operands(name, dtype)]
  with jax.enable_x64(True):
    compute = with_gradients(by_library, SHAPES[name][3])
    return jax.device_get((compute(*inputs), compute(*map(np.abs, inputs))))


LARGEST_ERRORS = {"float64": 1e-15, "float32": 1e-6}
CASES = [(name, dtype) for name in SHAPES for dtype in LARGEST_ERRORS]


def check(found, name, dtype):
  """Compares with the oracle, relative to the largest sum of absolute products."""
  exact, sums = oracle(name, dtype)
  assert [(array.shape, array.dtype) for array in found] == [(array.shape, dtype) for array in exact]
  for ours, array, largest in zip(found, exact, map(np.max, sums), strict=True):
    assert np.max(np.abs(ours - array)) <= LARGEST_ERRORS[dtype] * largest


@pytest.mark.parametrize("name, dtype", CASES)
def test_it_computes_what_xla_computes(name, dtype):
  check(compiled(name, dtype), name, dtype)


@pytest.mark.parametrize("empty", range(6), ids=["groups", "batch", "channels", "height", "width", "outputs"])
def test_an_empty_axis_gives_empty_sums(empty):
  sizes = [2, 2, 3, 8, 8, 4]
  sizes[empty] = 0
  groups, batch, channels, height, width, outputs = sizes
  image, kernel = jnp.ones((groups, batch, channels, height, width)), jnp.ones((groups, 9, outputs, channels))
  cotangent = jnp.ones((groups, batch, outputs, height, width))
  result, *gradients, of_bias = with_gradients(in_groups, square_taps(3))(
    image, kernel, jnp.ones((groups, outputs)), cotangent
  )
  np.testing.assert_array_equal(result, np.ones(result.shape))
  for array in gradients:
    np.testing.assert_array_equal(array, np.zeros(array.shape))
  np.testing.assert_array_equal(of_bias, np.full(of_bias.shape, batch * height * width))


def shifted(image, dy, dx):
  """`image[..., y + dy, x + dx]`, zero outside."""
  padded = np.pad(image, [(0, 0)] * (image.ndim - 2) + [(2, 2), (2, 2)])
  height, width = image.shape[-2:]
  return padded[..., 2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width]


@np.errstate(invalid="ignore")
def check_not_finite(operand, index, dtype):
  """Both primitives have NaN and infinities exactly where the sums of their definition have them. XLA's form of the
  weight gradient also has NaN elsewhere, since it multiplies by zeros that are not in the definition."""
  for bad in (np.nan, np.inf, -np.inf):
    rng = np.random.default_rng(0)
    operands = [rng.uniform(0.5, 1, size) for size in ((1, 2, 9, 37), (17, 3, 2), (1, 3, 9, 37))]
    operands[operand][index] = bad
    image, kernel, cotangent = operands
    with jax.enable_x64(dtype == "float64"):
      found = [np.asarray(array) for array in both_primitives(*(array.astype(dtype) for array in operands))]
    exact = (
      sum(np.einsum("oc,bchw->bohw", kernel[t], shifted(image, *tap)) for t, tap in enumerate(SEARCH_TAPS)),
      np.stack([np.einsum("bohw,bchw->oc", cotangent, shifted(image, *tap)) for tap in SEARCH_TAPS]),
      cotangent.sum(axis=(0, 2, 3)),
    )
    for ours, array in zip(found, exact, strict=True):
      np.testing.assert_allclose(ours, array, rtol=1e-5)


@jax.jit
def both_primitives(image, kernel, cotangent):
  convolved, pull = jax.vjp(lambda bias: convolve(image, kernel, SEARCH_TAPS, bias), jnp.zeros(3, image.dtype))
  return convolved, correlate(image, cotangent, SEARCH_TAPS), *pull(cotangent)


# In corners, at borders, and where one vector of pixels ends and the next begins.
PIXELS = [(0, 0), (5, 31), (8, 36), (3, 0), (8, 12)]
BAD = [(1, (0, 2, 1)), (1, (8, 0, 0)), *((operand, (0, 1, *pixel)) for operand in (0, 2) for pixel in PIXELS)]


@pytest.mark.parametrize("dtype", LARGEST_ERRORS)
@pytest.mark.parametrize("operand, index", BAD)
def test_what_is_not_finite_reaches_as_far_as_its_products(operand, index, dtype):
  check_not_finite(operand, index, dtype)


def test_calls_of_many_threads_do_not_meet():
  """More calls at a time than there are threads to share their work; every one has the bits of a call alone."""
  image, kernel, _, cotangent = (operand[0] for operand in operands("as_in_a_search", "float32"))

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
image, kernel, bias, cotangent = (operand[0] for operand in t.operands("several_strips", "float32"))
taps = t.SHAPES["several_strips"][3]
digest = hashlib.sha256(jax.device_get(t.convolve(image, kernel, taps, bias)).tobytes())
digest.update(jax.device_get(t.correlate(image, cotangent, taps)).tobytes())
print(digest.hexdigest())
"""


def test_the_bits_do_not_depend_on_how_many_threads_there_are():
  cores = sorted(os.sched_getaffinity(0))
  if len(cores) < 2:
    pytest.skip("needs two cores")
  assert run(f"import os; os.sched_setaffinity(0, {cores[:1]})\n{BITS}") == run(BITS)


@pytest.mark.parametrize("vectors, shown", [("plain", "plain"), ("avx2", "AVX2")])
def test_narrower_vectors_compute_the_same(vectors, shown, tmp_path):
  program = f"""
import pickle, test_native as t
print(t.native.form().about)
for operand, index in t.BAD:
  for dtype in t.LARGEST_ERRORS:
    t.check_not_finite(operand, index, dtype)
with open({str(tmp_path / "found")!r}, "wb") as file:
  pickle.dump([t.compiled(*case) for case in t.CASES], file)
"""
  (used,) = run(program, RUAS_JAX_NATIVE=vectors)
  if used == "plain vectors" and vectors != "plain":
    pytest.skip(f"this processor has no {shown}")
  assert used == f"{shown} vectors"
  for found, case in zip(pickle.loads((tmp_path / "found").read_bytes()), CASES, strict=True):
    check(found, *case)


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


def test_a_library_that_is_missing_or_for_a_later_jaxlib_is_not_used(tmp_path, monkeypatch):
  load = native.form.__wrapped__
  monkeypatch.setattr(native, "_ffi_version", lambda: 0)
  assert not load().native and "later jaxlib" in load().about
  monkeypatch.setattr(native, "LIBRARY", tmp_path / "libruas_convolution.so")
  assert not load().native and "not built" in load().about


def loaded(*libraries):
  """The forms with these libraries, in one other process, since a damaged library may end the process."""
  program = f"""
import pathlib
from ruas_jax.convolution import native
for path in {[str(library) for library in libraries]}:
  native.LIBRARY = pathlib.Path(path)
  print(native.form.__wrapped__())
"""
  return run(program)


def test_a_damaged_library_is_found_when_it_is_loaded(tmp_path):
  content = native.LIBRARY.read_bytes()
  of_another_processor = content[:18] + b"\xf3\x00" + content[20:]  # RISC-V
  parts = [content[: int(len(content) * share)] for share in (0, 1e-4, 0.01, 0.3, 0.6, 0.9, 0.9999)]
  damaged = [b"no library", of_another_processor, *parts]
  for number, library in enumerate(damaged):
    (tmp_path / f"{number}.so").write_bytes(library)
  found = loaded(*(tmp_path / f"{number}.so" for number in range(len(damaged))))
  for number, form in enumerate(found):
    assert re.fullmatch(rf"XLA \({number}.so (is cut off: reinstall ruas_jax|does not load: .+)\)", form), form
  assert len(found) == len(damaged)


def test_a_library_of_another_version_is_found_when_it_is_loaded(tmp_path):
  vectors = 'extern "C" const char* ruas_vectors() { return "other"; }\n'
  of_this_jaxlib = 'extern "C" int ruas_ffi_version() { return 0; }\n'
  sources = {
    "later.so": vectors + 'extern "C" int ruas_ffi_version() { return 999; }\n',
    "major.so": vectors + 'extern "C" int ruas_ffi_version() { return 1000; }\n',
    "older.so": vectors + of_this_jaxlib + 'extern "C" int ruas_calls_version() { return 1; }\n',
    "no_calls.so": vectors
    + of_this_jaxlib
    + f'extern "C" int ruas_calls_version() {{ return {native._CALLS_VERSION}; }}\n',
    "no_version.so": vectors,
  }
  for name, source in sources.items():
    (tmp_path / "source.cpp").write_text(source)
    failure = compile_cpp(tmp_path / "source.cpp", tmp_path / name, "-fPIC", "-shared")
    if failure:
      pytest.skip(f"needs a C++ compiler: {failure}")
  later, major, older, no_calls, no_version = loaded(*(tmp_path / name for name in sources))
  assert later == "XLA (later.so was built for a later jaxlib: reinstall ruas_jax)"
  assert major == "XLA (major.so was built for a later jaxlib: reinstall ruas_jax)"
  assert older == "XLA (older.so was built from other code: reinstall ruas_jax)"
  assert "no_calls.so does not load" in no_calls and "ruas_convolve" in no_calls
  assert "no_version.so does not load" in no_version and "ruas_ffi_version" in no_version


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_short_floats_are_computed_in_float32_and_rounded_once(dtype):
  rng = np.random.default_rng(0)
  sizes = ((2, 3, 8, 8), (17, 4, 3), (4,))
  operands = [jnp.asarray(rng.normal(size=size), dtype) for size in sizes]
  call = jax.jit(lambda image, kernel, bias: convolve(image, kernel, SEARCH_TAPS, bias))
  gradients = jax.jit(jax.grad(lambda *operands: call(*operands).astype(jnp.float32).sum(), (0, 1, 2)))
  assert "ruas_convolve" in call.lower(*operands).as_text()
  wide = [operand.astype(jnp.float32) for operand in operands]
  np.testing.assert_array_equal(call(*operands), call(*wide).astype(dtype))
  for short, exact in zip(gradients(*operands), gradients(*wide), strict=True):
    np.testing.assert_array_equal(short, exact.astype(dtype))


def test_other_dtypes_and_images_on_several_devices_are_left_to_xla():
  """A call to compiled code would bring all images to one device."""
  call = jax.jit(functools.partial(convolve, taps=SEARCH_TAPS))
  image, kernel = jnp.ones((2, 3, 8, 8)), jnp.ones((17, 4, 3))
  assert "ruas_convolve" in call.lower(image, kernel).as_text()
  assert "ruas_convolve" not in call.lower(image.astype(int), kernel.astype(int)).as_text()
  mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
  apart = jax.device_put(image, NamedSharding(mesh, PartitionSpec("data")))
  everywhere = jax.device_put(kernel, NamedSharding(mesh, PartitionSpec()))
  assert "ruas_convolve" not in call.lower(apart, everywhere).as_text()
  np.testing.assert_allclose(call(apart, everywhere), call(image, kernel), rtol=1e-6)
