"""Strict numerics for every test, quick compilation, a compilation cache, and the reference data where it exists."""

import functools
import gc
import importlib.metadata
import os
import pathlib
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
_CACHE = os.path.join(tempfile.gettempdir(), f"ruas_jax_test_cache_{os.getuid()}")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _CACHE)
# Each of several processes has its own: what another one is writing would be read by halves.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(
  os.environ["JAX_COMPILATION_CACHE_DIR"], os.environ.get("PYTEST_XDIST_WORKER", "")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("RUAS_JAX_CACHE", "off")  # no traced program of another test: some change what is traced
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's threads would wait in a loop while another process works
# Tests compile much and compute little: several times faster so. Small programs are not worth dividing among threads.
_XLA_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones end the process over a flag they do not know
  _XLA_FLAGS += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
os.environ.setdefault("XLA_FLAGS", _XLA_FLAGS)

import jax
import pytest
from jax._src.interpreters import mlir

# jax makes a new MLIR context for every program, which takes as long as lowering a small one and a megabyte that stays.
if hasattr(mlir, "make_ir_context"):  # no public name: later releases may have another
  mlir.make_ir_context = functools.cache(mlir.make_ir_context)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 2)  # so that a population is shared out
# Tracing makes millions of objects that live as long as the process: searching them for garbage again and again takes
# a tenth of the time.
gc.freeze()
gc.set_threshold(100_000, 50, 100)

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def unchanged_memory_settings():
  """No command changes the memory settings of the process: they would stay, and compiling is slower with them."""
  from ruas_jax.engine import memory

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(memory, "keep_freed_memory", lambda: None)
    yield


@pytest.fixture
def x64():
  """float64 for one test."""
  with jax.enable_x64(True):
    yield


@pytest.fixture(scope="module")
def x64_module():
  """float64 for a whole module and its module-scoped fixtures (`pytestmark =
  pytest.mark.usefixtures("x64_module")`)."""
  with jax.enable_x64(True):
    yield


@pytest.fixture(scope="module")
def xla_convolution():
  """A module whose convolutions are XLA's own operations, which it can count."""
  from ruas_jax.convolution import native

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(native, "form", lambda: native.Form(False, "a test"))
    jax.clear_caches()
    yield
  jax.clear_caches()


@pytest.fixture(scope="module")
def kept_programs():
  """A module that traces a program once and then reads it from the cache, as the command line does. Nothing that it
  changes may change what is traced."""
  with pytest.MonkeyPatch.context() as patch:
    patch.delenv("RUAS_JAX_CACHE", raising=False)
    yield


def shared(path: str) -> pathlib.Path:
  """A file or folder of the development data, which is not part of the project; skips where it is absent."""
  found = SHARED / path
  if not found.exists():
    pytest.skip(f"needs ../shared/{path}, which this checkout does not have beside it")
  return found
