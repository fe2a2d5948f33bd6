"""What search and training share: the work directory, and the loop that logs, shows progress and stops where a loss is
not finite."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath

from ruas_jax.config import Config
from ruas_jax.data.feed import Feed
from ruas_jax.errors import UserError
from ruas_jax.files import write_json
from ruas_jax.runner.device_loop import DeviceLoop, Log
from ruas_jax.runtime.metric_log import MetricLog, progress

Record = dict[str, Any]

METRICS = "metrics.jsonl"
CONFIG = "config.json"
POPULATION = "population.json"
OUTPUTS = (
  *(METRICS, "genotype.json", "alpha.npz", "alpha.png", "genotype.png", "losses.png", "checkpoint", "state"),
  *(POPULATION, "population.png"),
)
_MEMBER = re.compile(r"member_\d{3,}")


def prepare_workdir(workdir: str | os.PathLike | None, config: Config, *, overwrite: bool) -> epath.Path | None:
  """Makes the work directory and writes `config.json`; an earlier run in it is refused, or cleared with `overwrite`.

  All that any run writes goes before the new one starts, in a population's member folders too, so that a run that fails
  leaves no other run's results.

  Raises:
    UserError: there is a run already, or the folder cannot be written.
  """
  if workdir is None:
    return None
  folder = epath.Path(workdir).expanduser()
  try:
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    members = [path for path in inside if _MEMBER.fullmatch(path.name) and (path / CONFIG).exists()]
    earlier = [place / name for place in (folder, *members) for name in OUTPUTS if (place / name).exists()]
    if earlier and not overwrite:
      raise UserError(f"{folder} holds a run already; choose another --workdir, or replace it with --overwrite")
    for path in earlier:
      if path.is_dir():
        path.rmtree()
      else:
        path.unlink()
    for member in members if overwrite else ():
      (member / CONFIG).unlink()
      if not any(member.iterdir()):
        member.rmdir()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, dataclasses.asdict(config))
  except OSError as error:
    raise UserError(f"--workdir {folder}: cannot be written ({error.strerror or error})") from None
  return folder


def iterate(
  step: Callable,
  state: Any,
  feed: Feed,
  key: jax.Array,
  *,
  steps: int,
  description: str,
  folder: epath.Path | None,
  observe: Callable[[int, Any, tuple], tuple[dict[str, Any], bool]] | None = None,
  every: int = 0,
) -> tuple[Any, list[Record]]:
  """Runs `state, metrics = step(state, *batches, key)` for `steps` steps; returns the last state and the records
  logged.

  `observe(step, state, batches)` is asked after every `every` steps for more metrics and whether to stop there.

  Raises:
    UserError: a loss, or new weights, are not finite; it names the step. The log holds all steps up to it.
  """
  loop = DeviceLoop(step, state, feed, key)
  records: list[Record] = []
  with contextlib.ExitStack() as stack:
    log = stack.enter_context(MetricLog(folder / METRICS)) if folder else None
    bar = stack.enter_context(progress(steps, description))
    for first, rows in loop.calls(steps, every=every if observe else 0):
      new, failure = make_records(first, rows)
      stop, last = False, new[-1]["step"]
      if observe and last % every == 0 and not failure:
        more, stop = observe(last, loop.run.state, loop.batches())
        new[-1] |= {name: np.asarray(value).tolist() for name, value in jax.device_get(more).items()}
      records += new
      for record in new if log else ():
        log.write(record)
      bar.update(last, **losses_of(new[-1]))
      if failure:
        raise UserError(f"{description}: {failure}")
      if stop:
        break
  return loop.run.state, records


def make_records(first: int, log: Log) -> tuple[list[Record], str | None]:
  """The records of a call's steps, the first of which is the step `first`; and what was not finite in the last one.

  A metric named `X_iterations` that is zero says that X did not play in this step; its metrics are left out.

  Args:
    log: of one search or training, arrays `[steps]`.
  """
  columns = {name: values.tolist() for name, values in log.metrics.items()}
  records, failure = [], None
  for row in range(int(log.taken.sum())):
    metrics = {name: column[row] for name, column in columns.items()}
    idle = tuple(
      name.removesuffix("iterations") for name, value in metrics.items() if name.endswith("_iterations") and not value
    )
    records.append({"step": first + row} | {name: v for name, v in metrics.items() if not name.startswith(idle)})
    if not log.sound[row]:
      wrong = [name for name, value in losses_of(records[-1]).items() if not np.isfinite(value)]
      failure = (
        f"the {wrong[0].replace('_', ' ')} loss is not finite at step {first + row}"
        if wrong
        else f"the weights are not finite after step {first + row}"
      )
  return records, failure


def losses_of(record: Record) -> dict[str, float]:
  """The record's losses, by their names without the ending."""
  return {name.removesuffix("_loss"): value for name, value in record.items() if name.endswith("_loss")}
