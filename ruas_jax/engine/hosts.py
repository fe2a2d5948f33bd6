"""Communication of several hosts before a run begins."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ruas_jax.engine.run_options import RunOptions
from ruas_jax.engine.snapshots import Snapshot, Snapshots
from ruas_jax.errors import UserError

_FAILED, _BEGINNING = -2, -1


def require_one_run(identity: dict[str, Any], steps: int, run: RunOptions) -> None:
  """Raises UserError on every host if the hosts have different data or options. They would otherwise wait for each
  other at different steps, or mix the numbers of different runs."""
  if jax.process_count() > 1:
    asked = json.dumps([identity, steps, dataclasses.asdict(run)])
    digest = np.frombuffer(hashlib.sha256(asked.encode()).digest(), np.uint8)
    if (multihost_utils.process_allgather(digest) != digest).any():
      raise UserError("the hosts have different data or options: start all of them with the same data and options")


@contextlib.contextmanager
def told_to_other_hosts() -> Iterator[Callable[[Snapshot | None], None]]:
  """On the first host: a context whose function sends the chosen start to the other hosts. A failure is sent too."""
  told = _FAILED

  def tell(start: Snapshot | None) -> None:
    nonlocal told
    told = _BEGINNING if start is None else start.step

  try:
    yield tell
  finally:
    if jax.process_count() > 1:
      multihost_utils.broadcast_one_to_all(np.int32(told))


def follow_first_host(snapshots: Snapshots) -> Snapshot | None:
  """On the other hosts: the start that the first host chose, read from the shared folder.

  Raises:
    UserError: the first host failed.
  """
  step = int(multihost_utils.broadcast_one_to_all(np.int32(0)))
  if step == _FAILED:
    raise UserError("the first host could not begin the run; see the error in its output")
  return None if step == _BEGINNING else snapshots.at(step)
