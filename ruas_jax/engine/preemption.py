"""SIGTERM as a request: the run ends its step, writes a snapshot, and the process exits with a code of its own."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: try again, and it goes on


class Preempted(Exception):
  """The run was stopped by SIGTERM and its state is saved; the message is one line for the user."""


@contextlib.contextmanager
def notice_preemption() -> Iterator[Callable[[], bool]]:
  """Inside, SIGTERM does not end the process; what is yielded says whether it has come.

  Signals reach the main thread only: in another one, nothing is changed and the answer is always no.
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
