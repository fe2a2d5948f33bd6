"""Ensures that only one process runs in a run folder."""

import contextlib
import os
from collections.abc import Iterator

from etils import epath

from ruas_jax.errors import UserError

try:
  import fcntl
except ImportError:  # Windows has no such lock
  fcntl = None


@contextlib.contextmanager
def only_run_in(folder: epath.Path) -> Iterator[None]:
  """Holds a lock on the folder. The system releases it when the process ends, in any way.

  The folder itself is locked, so no lock file is left. There is no protection for a remote folder, or on a file system
  without locks.

  Raises:
    UserError: another process runs in the folder.
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
        raise UserError(
          f"`workdir` {folder}: another run uses this folder; wait until it ends, or choose another `workdir`"
        ) from None
    yield
  finally:
    os.close(handle)
