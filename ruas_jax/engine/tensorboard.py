"""The metrics for TensorBoard, beside the log (`metric_log`) that is always there."""

import os
from collections.abc import Mapping
from typing import Any

from ruas_jax.errors import UserError


class TensorBoardLog:
  """Writes every number of a record as a scalar under its name. A context manager.

  Args:
    folder: of the event files; what an earlier process wrote there is gone on with.
    after: the last step that is kept of it.

  Raises:
    UserError: the extra is not installed.
  """

  def __init__(self, folder: str | os.PathLike, *, after: int):
    try:
      from tensorboardX import SummaryWriter
    except ImportError:
      raise UserError('--tensorboard needs the extra: pip install "ruas-jax[tensorboard]"') from None
    # The suffix, since names of event files have whole seconds in them, and the second would replace the first.
    self._writer = SummaryWriter(os.fspath(folder), purge_step=after + 1, filename_suffix=f".after_{after}")

  def write(self, *records: Mapping[str, Any]) -> None:
    """Adds records, each with its `step`."""
    for record in records:
      for name, value in record.items():
        if isinstance(value, int | float) and name != "step":
          self._writer.add_scalar(name, value, record["step"])
    self._writer.flush()

  def __enter__(self) -> "TensorBoardLog":
    return self

  def __exit__(self, *_) -> None:
    self._writer.close()
