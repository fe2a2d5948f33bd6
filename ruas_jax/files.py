"""Writing files whole or not at all, local or remote (`etils.epath`)."""

import contextlib
import json
import os
from typing import Any

from etils import epath

from ruas_jax.errors import UserError


def write_atomically(path: str | os.PathLike, content: bytes) -> None:
  """Writes under a temporary name beside the file first, then renames it; makes the folder.

  Raises:
    UserError: naming the file and what the system said; nothing is left behind.
  """
  path = epath.Path(path)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_bytes(content)
    temporary.replace(path)
  except OSError as error:
    with contextlib.suppress(OSError):  # gone already, or never there
      temporary.unlink()
    raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


def write_json(path: str | os.PathLike, values: Any) -> None:
  """`write_atomically` of JSON for people to read; NaN and infinities are refused with a ValueError."""
  write_atomically(path, (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())
