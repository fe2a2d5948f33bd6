"""Writing files whole or not at all, local or remote (`etils.epath`)."""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

from etils import epath

from ruas_jax.errors import UserError


def write_atomically(path: str | os.PathLike, content: bytes) -> None:
  """Writes under a temporary name beside the file first, then renames it; makes the folder.

  Raises:
    UserError: naming the file and what the system said; nothing is left behind.
  """
  with _temporary(path) as temporary:
    temporary.write_bytes(content)
    sync(temporary)
    temporary.replace(epath.Path(path))


def sync(*paths: str | os.PathLike) -> None:
  """Has the system put files, and the names in folders, on the disk, so that a power cut spares them. What is remote is
  safe once it is written."""
  for path in (os.fspath(path) for path in paths):
    if "://" in path:
      continue
    with contextlib.suppress(PermissionError):  # of folders on Windows
      handle = os.open(path, os.O_RDONLY)
      try:
        os.fsync(handle)
      finally:
        os.close(handle)


def check_writable(path: str | os.PathLike) -> None:
  """Raises the UserError that `write_atomically` would, without touching a file that is there; makes the folder."""
  if epath.Path(path).is_dir() or not epath.Path(path).name:
    raise UserError(f"{os.fspath(path)!r}: cannot be written (it names a folder)")
  with _temporary(path) as temporary:
    temporary.write_bytes(b"")


@contextlib.contextmanager
def _temporary(path) -> Iterator[epath.Path]:
  """A name beside the file, whose folder exists; what is left under it in the end is removed."""
  path = epath.Path(path)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    yield temporary
  except OSError as error:
    raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
  finally:
    with contextlib.suppress(OSError):  # gone already, or never there
      temporary.unlink()


def write_json(path: str | os.PathLike, values: Any) -> None:
  """`write_atomically` of JSON for people to read; NaN and infinities are refused with a ValueError."""
  write_atomically(path, (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())
