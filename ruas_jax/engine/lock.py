"""One live run in a work directory."""

import contextlib
import os
from collections.abc import Iterator

from etils import epath

from ruas_jax.errors import UserError

try:
  import fcntl
except ImportError:  # no such lock on Windows
  fcntl = None


@contextlib.contextmanager
def only_run_in(folder: epath.Path) -> Iterator[None]:
  """Holds the folder's lock; the system drops it when the process dies, however it dies.

  The folder itself is what is locked, so that nothing is left in it. A remote folder, or a file system that knows no
  locks, is not guarded.

  Raises:
    UserError: a run is at work in the folder.
  """
  if fcntl is None or "://" in os.fspath(folder):
    yield
    return
  handle = os.open(folder, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):  # a file system without locks
      try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        raise UserError(f"--workdir {folder}: another run is at work in it") from None
    yield
  finally:
    os.close(handle)
