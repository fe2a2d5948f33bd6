"""How the process's memory is managed."""

import contextlib
import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of glibc's mallopt
_LARGEST_MMAP_THRESHOLD = 2**25  # that glibc takes


def keep_freed_memory() -> None:
  """Has glibc keep large buffers that were freed, for the next ones.

  Without it every program that XLA runs on a CPU gets its buffers anew from the system, which fills them with zeros: a
  third of the time of enhancing a photograph. To be called before threads are started. Other systems are left alone.
  """
  if not sys.platform.startswith("linux"):
    return
  with contextlib.suppress(OSError, AttributeError):  # another C library
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    mallopt(_TRIM_THRESHOLD, 2**30)
    mallopt(_ARENA_MAX, 1)  # the buffers of all threads come from one heap, which alone can hold large ones
