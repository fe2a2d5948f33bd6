"""The compiled form of the two primitives for CPUs: `native/convolution.cc`, called by XLA.

It is built when the package is installed, if there is a C++ compiler (`hatch_build.py`). Without it, or with
`RUAS_JAX_NATIVE=off` in the environment, XLA's operations are used (`xla_forms`). `RUAS_JAX_NATIVE=plain` and `avx2`
limit the vector width.
"""

import ctypes
import functools
import math
import os
import pathlib
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import mlir

LIBRARY = pathlib.Path(__file__).parent / "native" / "libruas_convolution.so"
_TARGETS = ("ruas_convolve", "ruas_correlate")
_CALLS_VERSION = 3  # that of `convolution.cc`
_DTYPES = (np.float32, np.float64)
_SHORT = (np.float16, jnp.bfloat16)


class Form(NamedTuple):
  """The form in which convolutions run on a CPU.

  Attributes:
    native: whether it is the compiled form.
    about: its vectors, or the reason why the compiled form is not used.
  """

  native: bool
  about: str

  def __str__(self) -> str:
    return f"native, {self.about}" if self.native else f"XLA ({self.about})"


@functools.cache
def form() -> Form:
  """The form that this process uses. The first call loads the compiled library and registers it with XLA."""
  if os.environ.get("RUAS_JAX_NATIVE") == "off":
    return Form(False, "RUAS_JAX_NATIVE=off")
  if not LIBRARY.exists():
    return Form(False, "not built: at installation there was no C++ compiler, or it failed")
  try:
    if not _is_complete(LIBRARY):
      return Form(False, f"{LIBRARY.name} is cut off: reinstall ruas_jax")
    library = ctypes.CDLL(os.fspath(LIBRARY))
    library.ruas_vectors.restype = ctypes.c_char_p
    built, here = library.ruas_ffi_version(), _ffi_version()
    if built > here or built // 1000 != here // 1000:  # jax would notice only later, when its backend starts
      return Form(False, f"{LIBRARY.name} was built for a later jaxlib: reinstall ruas_jax")
    if library.ruas_calls_version() != _CALLS_VERSION:  # a changed call would fail only when it is made
      return Form(False, f"{LIBRARY.name} was built from other code: reinstall ruas_jax")
    for target in _TARGETS:
      jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(library, target)), platform="cpu")
  except Exception as error:  # for another processor or version, or damaged
    return Form(False, f"{LIBRARY.name} does not load: {next(iter(str(error).splitlines()), type(error).__name__)}")
  return Form(True, f"{library.ruas_vectors().decode()} vectors")


def _is_complete(library: pathlib.Path) -> bool:
  """Whether an ELF file has all bytes up to its section headers, which are its end. Loading a part of one may crash.
  Other formats are not checked."""
  with library.open("rb") as file:
    header = file.read(64)
  if header[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian
    return True
  start, size, count = *struct.unpack_from("<Q", header, 40), *struct.unpack_from("<HH", header, 58)
  return start + size * count <= library.stat().st_size


def _ffi_version() -> int:
  """Version of XLA's interface in this jaxlib, in the format of `ruas_ffi_version`. Only the headers contain it."""
  header = pathlib.Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
  major, minor = re.findall(r"#define XLA_FFI_API_M(?:AJOR|INOR) (\d+)", header.read_text())
  return 1000 * int(major) + int(minor)


def lowering(target: str, attributes: Callable[..., dict[str, Any]], *, otherwise: Callable) -> Callable:
  """The lowering rule that calls `target` with the `attributes` of the first operand's shape and the parameters. It
  computes shorter floats in float32.

  It uses `otherwise` for other dtypes, and for images that the partitioner may divide over devices, because a call to
  compiled code would gather them again.
  """

  def rule(context, *operands, **parameters):
    image = context.avals_in[0]
    if image.dtype not in (*_DTYPES, *_SHORT) or _partitions(context) > 1 or not form().native:
      return otherwise(context, *operands, **parameters)
    of_call = attributes(image.shape, **parameters)
    if image.dtype in _DTYPES:
      return jax.ffi.ffi_lowering(target)(context, *operands, **of_call)
    call = jax.ffi.ffi_call(target, [jax.ShapeDtypeStruct(each.shape, np.float32) for each in context.avals_out])
    in_float32 = lambda *wide: [x.astype(image.dtype) for x in call(*(x.astype(np.float32) for x in wide), **of_call)]
    return mlir.lower_fun(in_float32, multiple_results=True)(context, *operands)

  return rule


def convolve_attributes(
  image: tuple[int, ...], *, taps, ranges: Sequence[tuple[int, int]] | None = None, slope: float = 1.0, **_
) -> dict[str, Any]:
  """The attributes of `ruas_convolve` for images `[G, B, C, H, W]`. `ranges` are the first channel and the number of
  channels that it reads of each image. It multiplies negative results by `slope`."""
  parts = np.array(ranges or [(0, image[2])], np.int64).ravel()
  return {**correlate_attributes(image, taps=taps), "parts": parts, "slope": np.float64(slope)}


def correlate_attributes(_, *, taps, **__) -> dict[str, Any]:
  """The attributes of `ruas_correlate`."""
  return {"taps": np.array(taps, np.int64).ravel()}


def _partitions(context: mlir.LoweringRuleContext) -> int:
  """Number of devices over which XLA may divide the operands."""
  axes: Any = context.module_context.axis_context
  if hasattr(axes, "num_devices"):
    return axes.num_devices
  return math.prod(size for name, size in axes.mesh.shape.items() if name not in axes.manual_axes)
