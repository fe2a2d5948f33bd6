"""Many concurrent calls of the compiled convolution under the thread, address and undefined behaviour sanitizers
(`native/stress.cpp`)."""

import functools
import os
import pathlib
import subprocess

import pytest
from cpp import compile_cpp

ROOT = pathlib.Path(__file__).resolve().parents[1]
SANITIZERS = {"thread": "-O1", "address,undefined": "-O0"}  # each as it compiles and runs soonest
VECTORS = ("plain", "avx2", "avx512")
HEADERS = ROOT / "ruas_jax" / "convolution" / "native"
SECONDS = 300  # enough for a run; a deadlock would otherwise not end


@pytest.fixture(scope="module")
def stress(tmp_path_factory):
  """`stress(sanitizer)` is the compiled program; skips where an empty program does not run with the sanitizer."""

  @functools.cache
  def compiled(sanitizer):
    folder = tmp_path_factory.mktemp("stress")
    flags = [SANITIZERS[sanitizer], "-g1", "-pthread", f"-I{HEADERS}", "-fno-sanitize-recover=all"]
    flags.append(f"-fsanitize={sanitizer}")
    empty = folder / "empty.cpp"
    empty.write_text("int main() { return 0; }\n")
    failure = compile_cpp(empty, folder / "empty", *flags)
    if not failure:
      failure = subprocess.run([folder / "empty"], capture_output=True, text=True).stderr
    if failure:
      pytest.skip(f"needs a compiler with -fsanitize={sanitizer}: {failure.splitlines()[0]}")
    failure = compile_cpp(ROOT / "tests" / "native" / "stress.cpp", folder / "stress", *flags)
    assert not failure, failure
    return folder / "stress"

  return compiled


def run(program, rounds, vectors):
  """The kind of vector that the program used, if its results are right and the sanitizer says nothing."""
  environment = os.environ | {"RUAS_JAX_NATIVE": vectors}
  done = subprocess.run([program, str(rounds)], env=environment, capture_output=True, text=True, timeout=SECONDS)
  assert done.returncode == 0 and not done.stderr, f"{done.stdout}{done.stderr}"
  used, calls = done.stdout.split()
  assert int(calls) == 384 * rounds  # 16 shapes, 2 dtypes, 3 pools, 4 callers
  return used


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_concurrent_calls_are_clean(sanitizer, stress):
  run(stress(sanitizer), 1, "")


@pytest.mark.slow
@pytest.mark.parametrize("vectors", VECTORS)
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_concurrent_calls_are_clean_with_every_kind_of_vector(sanitizer, vectors, stress):
  if run(stress(sanitizer), 8, vectors) != vectors:
    pytest.skip(f"this processor has no {vectors}")
