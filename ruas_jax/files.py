"""Writing files completely or not at all, local or remote (`etils.epath`)."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from typing import Any

from etils import epath

from ruas_jax.errors import UserError


def write_atomically(path: str | os.PathLike, content: bytes) -> None:
  """Writes a temporary file in the same folder, then renames it. Makes the folder.

  Raises:
    UserError: names the file and the system's reason. No temporary file is left.
  """
  with _temporary(path) as temporary:
    temporary.write_bytes(content)
    sync(temporary)
    temporary.replace(epath.Path(path))


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[str]:
  """A temporary path in the folder of a local file, for a writer that takes a path. If the block ends without an error,
  the temporary file gets the name `path`. What a killed process left of this file is removed first.

  Raises:
    UserError: names the file and the system's reason. No temporary file is left.
  """
  with _temporary(path) as temporary:
    name = re.compile(rf"\.{re.escape(epath.Path(path).name)}\.\d+")
    for other in temporary.parent.iterdir():
      if name.fullmatch(other.name):
        other.unlink()
    yield os.fspath(temporary)
    sync(temporary)
    temporary.replace(epath.Path(path))


def sync(*paths: str | os.PathLike) -> None:
  """Asks the system to write files, and the names in folders, to the disk, so that they survive a power failure. Remote
  files are skipped: they are safe once written."""
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
  """Raises the UserError that `write_atomically` would raise. Does not change an existing file; makes the folder."""
  if epath.Path(path).is_dir() or not epath.Path(path).name:
    raise UserError(f"{os.fspath(path)!r}: cannot be written (it is a folder)")
  with _temporary(path) as temporary:
    temporary.write_bytes(b"")


@contextlib.contextmanager
def _temporary(path) -> Iterator[epath.Path]:
  """A temporary name in the folder of `path`, which is made. A file of this name is removed in the end."""
  path = epath.Path(path)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    yield temporary
  except OSError as error:
    raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
  finally:
    with contextlib.suppress(OSError):  # it was renamed, or never written
      temporary.unlink()


def write_json(path: str | os.PathLike, values: Any) -> None:
  """`write_atomically` of indented JSON. Raises ValueError for NaN and infinities."""
  write_atomically(path, (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())
