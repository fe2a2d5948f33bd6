"""The file of a table: a compressed archive of numpy arrays, and a JSON text that says what they are."""

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from ruas_jax.errors import UserError
from ruas_jax.files import write_atomically

FORMAT = 1
_DAMAGE = (
  OSError,
  EOFError,
  KeyError,
  TypeError,
  NotImplementedError,
  RuntimeError,
  ValueError,
  struct.error,
  zlib.error,
  zipfile.BadZipFile,
)


class Content(NamedTuple):
  """Attributes:
  about: names of the space, its edges and operations, and everything that the card says.
  metrics: float32 `[seeds, architectures, lengths]` by name, NaN where an architecture was not trained with a seed.
  costs: `[architectures]` by name.
  """

  about: dict[str, Any]
  metrics: dict[str, np.ndarray]
  costs: dict[str, np.ndarray]


def write_table(path: str | os.PathLike, content: Content) -> None:
  """Writes the file, completely or not at all."""
  arrays = {f"metric_{name}": values.astype(np.float32) for name, values in content.metrics.items()}
  arrays |= {f"cost_{name}": values for name, values in content.costs.items()}
  text = json.dumps({"format": FORMAT} | content.about)
  buffer = io.BytesIO()
  np.savez_compressed(buffer, about=np.frombuffer(text.encode(), np.uint8), allow_pickle=False, **arrays)
  write_atomically(path, buffer.getvalue())


def read_table(path: str | os.PathLike) -> Content:
  """The content of a file. Its checksums are compared.

  Raises:
    UserError: the file is missing, damaged, or of another format; the message is one line with its name.
  """
  try:
    data = epath.Path(path).read_bytes()
  except OSError as error:
    raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
  try:
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
      arrays = {name: archive[name] for name in archive.files}
    about = json.loads(arrays.pop("about").tobytes())
    made = about.pop("format")
    content = Content(about, _with_prefix(arrays, "metric_"), _with_prefix(arrays, "cost_"))
    _check_shapes(content)
  except _DAMAGE as error:
    raise UserError(f"{path}: not a table, or damaged ({type(error).__name__}); install ruas_jax again") from None
  if made != FORMAT:
    raise UserError(f"{path}: a table of format {made}, and this version of ruas_jax reads format {FORMAT}")
  return content


def _with_prefix(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
  return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}


def _check_shapes(content: Content) -> None:
  """Raises ValueError or KeyError unless the arrays fit what the text says."""
  about = content.about
  count = len(about["operations"]) ** len(about["edges"])
  if not content.metrics or about["objective"] not in content.metrics:
    raise ValueError("no metrics")
  for values in content.metrics.values():
    if values.ndim != 3 or values.shape[1:] != (count, len(about["lengths"])):
      raise ValueError("metrics of another shape")
  for values in content.costs.values():
    if values.shape != (count,):
      raise ValueError("costs of another shape")
