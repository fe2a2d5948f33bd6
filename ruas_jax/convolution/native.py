"""The compiled form of the two primitives on a CPU: `native/convolution.cc`, called by XLA.

It is built when the package is installed, where there is a C++ compiler (`hatch_build.py`). Where there is none, or the
environment's `RUAS_JAX_NATIVE=off` says so, XLA's own operations stand in (`xla_forms`). `RUAS_JAX_NATIVE=plain` and
`avx2` forbid wider vectors.
"""

import ctypes
import functools
import math
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.interpreters import mlir

LIBRARY = pathlib.Path(__file__).parent / "native" / "libruas_convolution.so"
_TARGETS = ("ruas_convolve", "ruas_correlate")
_DTYPES = (np.float32, np.float64)


class Form(NamedTuple):
  """How convolutions run on a CPU.

  Attributes:
    native: whether in the compiled form.
    about: in words: its vectors, or why it does not run.
  """

  native: bool
  about: str

  def __str__(self) -> str:
    return f"native, {self.about}" if self.native else f"XLA ({self.about})"


@functools.cache
def form() -> Form:
  """Which form runs in this process; the compiled one is loaded and made known to XLA by the first call."""
  if os.environ.get("RUAS_JAX_NATIVE") == "off":
    return Form(False, "RUAS_JAX_NATIVE=off")
  if not LIBRARY.exists():
    return Form(False, "not built: no C++ compiler was found at installation")
  try:
    library = ctypes.CDLL(os.fspath(LIBRARY))
    library.ruas_vectors.restype = ctypes.c_char_p
    built, here = library.ruas_ffi_version(), _ffi_version()
    if built > here or built // 1000 != here // 1000:  # jax itself would notice too late, with its backend
      return Form(False, f"{LIBRARY.name} was built for a later jaxlib: install ruas_jax anew")
    for target in _TARGETS:
      jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(library, target)), platform="cpu")
  except Exception as error:  # of another processor, of another version, or damaged
    return Form(False, f"{LIBRARY.name} does not load: {next(iter(str(error).splitlines()), type(error).__name__)}")
  return Form(True, f"{library.ruas_vectors().decode()} vectors")


def _ffi_version() -> int:
  """Of XLA's interface in this jaxlib, as `ruas_ffi_version` writes it; it is stated in the headers alone."""
  header = pathlib.Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
  major, minor = re.findall(r"#define XLA_FFI_API_M(?:AJOR|INOR) (\d+)", header.read_text())
  return 1000 * int(major) + int(minor)


def lowering(target: str, *, otherwise: Callable) -> Callable:
  """The lowering rule that calls `target`, and where it cannot serve, `otherwise`: for another dtype than float32 and
  float64, and for images that the partitioner shares out over devices, which a call to compiled code would undo."""

  def rule(context, first, second, *, taps):
    dtype = context.avals_in[0].dtype
    if dtype not in _DTYPES or _partitions(context) > 1 or not form().native:
      return otherwise(context, first, second, taps=taps)
    return jax.ffi.ffi_lowering(target)(context, first, second, taps=np.array(taps, np.int64).ravel())

  return rule


def _partitions(context: mlir.LoweringRuleContext) -> int:
  """Over how many devices XLA may share out the operands."""
  axes: Any = context.module_context.axis_context
  if hasattr(axes, "num_devices"):
    return axes.num_devices
  return math.prod(size for name, size in axes.mesh.shape.items() if name not in axes.manual_axes)
