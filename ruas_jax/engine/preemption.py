"""SIGTERM is a request: the run finishes its step, writes a snapshot, and the process exits with a special code."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: run the command again to resume


class Preempted(Exception):
  """SIGTERM stopped the run, and its state is saved. The message is one line for the user."""


@contextlib.contextmanager
def notice_preemption() -> Iterator[Callable[[], bool]]:
  """Context in which SIGTERM does not end the process. The yielded function returns whether SIGTERM has arrived.

  Only the main thread receives signals. In another thread, nothing changes and the function returns False.
  """
  noticed = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield noticed.is_set
    return
  before = signal.signal(signal.SIGTERM, lambda *_: noticed.set())
  try:
    yield noticed.is_set
  finally:
    signal.signal(signal.SIGTERM, before)
