"""Settings of the memory of this process: its allocator, and Python's garbage collection."""

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # parameters of glibc's mallopt


def keep_freed_memory() -> None:
  """Makes this process keep up to 1 GiB of freed memory for reuse, on Linux with glibc. Elsewhere it does nothing.

  Otherwise every program that XLA runs on a CPU gets new buffers from the system, which fills them with zeros. That
  takes a fifth to a third of the time of enhancing a large photograph. Call this before threads are started, and not
  for work that compiles much: the compiler's threads then share one heap, and compiling a search takes 1.4 times as
  long.
  """
  if not sys.platform.startswith("linux"):
    return
  with contextlib.suppress(OSError, AttributeError):  # not glibc
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_MMAP_MAX, 0)  # glibc never keeps what mmap gave, so large buffers come from the heap too
    mallopt(_TRIM_THRESHOLD, 2**30)
    mallopt(_ARENA_MAX, 1)  # all threads use one heap, because only the main heap can hold large buffers


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
  """Context without the collection of cyclic garbage. Tracing makes millions of objects and little garbage, so that
  collections would take an eighth of its time."""
  was_on = gc.isenabled()
  gc.disable()
  try:
    yield
  finally:
    if was_on:
      gc.enable()
