"""The metrics for TensorBoard, in addition to the log (`metric_log`)."""

import os
from collections.abc import Mapping
from typing import Any

from ruas_jax.errors import UserError


class TensorBoardLog:
  """Writes every number of a record as a scalar with its name. Use it as a context manager.

  Args:
    folder: folder of the event files; those of an earlier process are continued.
    after: last step of the earlier events to keep.

  Raises:
    UserError: the extra `tensorboard` is not installed.
  """

  def __init__(self, folder: str | os.PathLike, *, after: int):
    try:
      from tensorboardX import SummaryWriter
    except ImportError:
      raise UserError('`tensorboard` needs the extra: pip install "ruas-jax[tensorboard]"') from None
    # The suffix makes names unique: they contain whole seconds, so a second file would replace the first.
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
