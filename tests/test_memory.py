"""Whether the system gives new memory for a buffer of a size that was freed before, in a process of its own."""

import pathlib
import platform
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
MEGABYTES = 100  # more than the largest buffer that glibc keeps unless it is asked to
PROGRAM = f"""
import ctypes, resource, sys
from ruas_jax.engine.memory import keep_freed_memory
if sys.argv[1] == "keep":
  keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
for _ in range(2):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  buffer = libc.malloc({MEGABYTES} << 20)
  ctypes.memset(buffer, 1, {MEGABYTES} << 20)
  libc.free(buffer)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(what):
  """Pages that the system gave for the second buffer."""
  done = subprocess.run([sys.executable, "-c", PROGRAM, what], cwd=ROOT, capture_output=True, text=True, check=True)
  return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_a_large_buffer_that_was_freed_is_used_again():
  assert faults("keep") < faults("return") / 5
