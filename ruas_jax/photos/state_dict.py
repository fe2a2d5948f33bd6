"""Reads the weights in a PyTorch checkpoint (`.pt`, `.pth`) or a NumPy archive (`.npz`), without PyTorch.

A checkpoint is a pickle, and a pickle can call any Python function while it loads. The unpickler in this file knows
only ordered dictionaries and tensors. Tensors are plain descriptions that are filled with the raw numbers afterwards.
Every other name is refused, so no code from the file runs. Both layouts are supported: the one before PyTorch 1.6
(several pickles, then the numbers) and the later zip archive.

Result: a flat mapping from names to C-contiguous float32 arrays, in the order of the file.
"""

import collections
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ruas_jax.errors import UserError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_STORAGES = {
  "FloatStorage": "<f4",
  "DoubleStorage": "<f8",
  "HalfStorage": "<f2",
  "LongStorage": "<i8",
  "IntStorage": "<i4",
}


class _Refused(Exception):
  """The file is not allowed; the message says why."""


class _Storage(NamedTuple):
  """A block of numbers in the file; `start` is the first number in use."""

  key: str
  dtype: np.dtype
  count: int
  start: int


class _Tensor(NamedTuple):
  """A view of a storage; offset and strides count elements."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]

  def fill(self, numbers: np.ndarray) -> np.ndarray:
    first = self.storage.start + self.offset
    last = first + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
    elements = int(np.prod(self.shape, dtype=object))
    if elements and (min(first, *self.strides, 0) < 0 or last >= len(numbers) or elements > len(numbers)):
      raise _Refused("a tensor is larger than its block of numbers")
    if not elements:
      return np.zeros(self.shape, np.float32)
    strides = [stride * numbers.itemsize for stride in self.strides]
    view = np.lib.stride_tricks.as_strided(numbers[first:], self.shape, strides, writeable=False)
    return np.ascontiguousarray(view, dtype=np.float32).reshape(self.shape)


def _rebuild_tensor(storage, offset, shape, strides, requires_grad, backward_hooks, metadata=None) -> _Tensor:
  return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(data, requires_grad, backward_hooks) -> _Tensor:
  return data


_ALLOWED = {
  "collections.OrderedDict": collections.OrderedDict,
  "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
  "torch._utils._rebuild_parameter": _rebuild_parameter,
  **{f"torch.{name}": np.dtype(code) for name, code in _STORAGES.items()},
}


class _Unpickler(pickle.Unpickler):
  """Knows only the names that a file of tensors needs."""

  def find_class(self, module: str, name: str) -> object:
    try:
      return _ALLOWED[f"{module}.{name}"]
    except KeyError:
      raise _Refused(f"it needs {module}.{name}, but only plain tensors are read") from None

  def persistent_load(self, identifier: tuple) -> _Storage:
    kind, dtype, key, _, count, *view = identifier
    if kind != "storage" or not isinstance(dtype, np.dtype):
      raise _Refused(f"it refers to a {kind}, but only plain tensors are read")
    return _Storage(key, dtype, count, view[0][1] if view and view[0] else 0)


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads a state dict.

  Args:
    path: a `.npz`, or a file from `torch.save(module.state_dict(), path)`; the content counts, not the suffix.

  Returns:
    float32 arrays by name, with the shapes in the file; wider numbers and integers are converted.

  Raises:
    UserError: the file is missing, damaged or incomplete, or is not a flat mapping from names to tensors.
  """
  path = Path(path)
  try:
    data = path.read_bytes()
    if not zipfile.is_zipfile(io.BytesIO(data)):
      return _read_legacy(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
      pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
      return _read_zip(archive, pickles[0].removesuffix("data.pkl")) if pickles else _read_npz(data)
  except OSError as error:
    raise UserError(f"{path}: cannot read the weights: {error.strerror or error}") from error
  except _Refused as error:
    raise UserError(f"{path}: cannot read the weights: {error}") from error
  except Exception as error:  # a damaged pickle or archive can raise almost any type
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    raise UserError(f"{path}: cannot read the weights, the file may be damaged or incomplete ({cause})") from error


def _read_npz(data: bytes) -> dict[str, np.ndarray]:
  with np.load(io.BytesIO(data), allow_pickle=False) as archive:
    arrays = {name: archive[name] for name in archive.files}
  for name, array in arrays.items():
    if array.dtype.kind not in "fiu":
      raise _Refused(f"{name!r} holds {array.dtype}, not numbers")
  return {name: np.ascontiguousarray(array, dtype=np.float32).reshape(array.shape) for name, array in arrays.items()}


def _read_zip(archive: zipfile.ZipFile, folder: str) -> dict[str, np.ndarray]:
  if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
    raise _Refused("its numbers are big-endian")
  content = _Unpickler(io.BytesIO(archive.read(f"{folder}data.pkl"))).load()
  return _fill(content, lambda storage: archive.read(f"{folder}data/{storage.key}"))


def _read_legacy(data: bytes) -> dict[str, np.ndarray]:
  stream = io.BytesIO(data)

  def load() -> Any:
    return _Unpickler(stream).load()

  if not data.startswith(b"\x80") or load() != _LEGACY_MAGIC or load() != _LEGACY_PROTOCOL:
    raise _Refused("it is neither a NumPy archive nor a PyTorch checkpoint")
  if not load()["little_endian"]:
    raise _Refused("its numbers are big-endian")
  content, keys = load(), load()
  # Each block is a count of elements and then the elements. Only the tensors that use it know the size of an element.
  tensors = content.values() if isinstance(content, Mapping) else ()
  widths = {tensor.storage.key: tensor.storage.dtype.itemsize for tensor in tensors if isinstance(tensor, _Tensor)}
  blocks = {}
  for key in keys:
    if key not in widths:
      raise _Refused("it holds numbers that belong to no tensor")
    (count,) = struct.unpack("<q", stream.read(8))
    blocks[key] = stream.read(count * widths[key])
  return _fill(content, lambda storage: blocks[storage.key])


def _fill(content: object, numbers_of: Callable[[_Storage], bytes]) -> dict[str, np.ndarray]:
  if not isinstance(content, Mapping):
    raise _Refused(f"it holds a {type(content).__name__}, not a mapping from names to tensors")
  arrays = {}
  for name, tensor in content.items():
    if not isinstance(name, str) or not isinstance(tensor, _Tensor):
      raise _Refused(f"its entry {name!r} is not a tensor")
    numbers = numbers_of(tensor.storage)
    if len(numbers) != tensor.storage.count * tensor.storage.dtype.itemsize:
      raise _Refused(f"{name!r} does not have as many numbers as the file announces")
    arrays[name] = tensor.fill(np.frombuffer(numbers, tensor.storage.dtype))
  return arrays
