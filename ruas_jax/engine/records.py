"""The records of a run: one dictionary for each step."""

from typing import Any

import jax
import numpy as np

from ruas_jax.engine.device_loop import Log
from ruas_jax.engine.metrics import columns_of
from ruas_jax.engine.run_options import LARGEST_LOSS

Record = dict[str, Any]


def make_records(first: int, log: Log, *, largest_loss: float = LARGEST_LOSS) -> tuple[list[Record], str | None]:
  """The records of a call's steps, counted from the step `first`, and the failure in the last one (None: no failure).

  Args:
    log: log of one search or training, arrays `[steps]`.
    largest_loss: a larger loss is a failure.
  """
  parts = {
    part: ({name: values.tolist() for name, values in columns_of(part, metrics).items()}, np.asarray(metrics.active))
    for part, metrics in log.metrics.items()
  }
  records, failure = [], None
  for row in range(int(log.taken.sum())):
    record = {"step": first + row}
    for columns, active in parts.values():
      if active[row]:
        record |= {name: column[row] for name, column in columns.items()}
    records.append(record)
    if not log.sound[row]:
      failure = _what_failed(record, largest_loss)
  return records, failure


def split(log: Log, members: int) -> list[Log]:
  """The log of each member of a population."""
  return [jax.tree.map(lambda rows: rows[:, position], log) for position in range(members)]


def losses_of(record: Record) -> dict[str, float]:
  """The losses of a record by name. In the log, a loss is a field that ends in `_loss` (`StepMetrics`)."""
  return {name.removesuffix("_loss"): value for name, value in record.items() if name.endswith("_loss")}


def median_losses(records: list[Record]) -> dict[str, float]:
  """The median over several members of each loss."""
  losses = [losses_of(record) for record in records]
  names = dict.fromkeys(name for member in losses for name in member)
  return {name: float(np.median([member[name] for member in losses if name in member])) for name in names}


def _what_failed(record: Record, largest_loss: float) -> str:
  step, losses = record["step"], losses_of(record)
  for name, value in losses.items():
    if not np.isfinite(value):
      return f"the {name.replace('_', ' ')} loss is not finite at step {step}"
  for name, value in losses.items():
    if abs(value) > largest_loss:
      return f"the {name.replace('_', ' ')} loss is {value:.3g} at step {step}, above `largest_loss` {largest_loss:.3g}"
  return f"the weights are not finite after step {step}"
