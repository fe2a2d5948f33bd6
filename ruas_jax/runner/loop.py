"""The loop that search and training share: step, log, show progress, stop at the first loss that is not finite."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from etils import epath

from ruas_jax.config import Config
from ruas_jax.errors import UserError
from ruas_jax.files import write_json
from ruas_jax.runtime.metric_log import MetricLog, progress

Record = dict[str, Any]

METRICS = "metrics.jsonl"
CONFIG = "config.json"
OUTPUTS = (METRICS, "genotype.json", "alpha.npz", "alpha.png", "genotype.png", "losses.png", "checkpoint", "state")


def prepare_workdir(workdir: str | os.PathLike | None, config: Config, *, overwrite: bool) -> epath.Path | None:
  """Makes the work directory and writes `config.json`; an earlier run in it is refused, or cleared with `overwrite`.

  All that any run writes goes before the new one starts, so that a run that fails leaves no other run's results.

  Raises:
    UserError: there is a run already, or the folder cannot be written.
  """
  if workdir is None:
    return None
  folder = epath.Path(workdir).expanduser()
  try:
    earlier = [folder / name for name in OUTPUTS if (folder / name).exists()]
    if earlier and not overwrite:
      raise UserError(f"{folder} holds a run already; choose another --workdir, or replace it with --overwrite")
    for path in earlier:
      if path.is_dir():
        path.rmtree()
      else:
        path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, dataclasses.asdict(config))
  except OSError as error:
    raise UserError(f"--workdir {folder}: cannot be written ({error.strerror or error})") from None
  return folder


def iterate(
  step: Callable,
  state: Any,
  batches: Iterator[tuple],
  key: jax.Array,
  *,
  steps: int,
  description: str,
  folder: epath.Path | None,
  observe: Callable[[int, Any, tuple], tuple[dict[str, Any], bool]] | None = None,
) -> tuple[Any, list[Record]]:
  """Runs `state, metrics = step(state, *batch, key)` for `steps` steps; returns the last state and the records logged.

  `observe(step, state, batch)` is asked after every step for more metrics and whether to stop there.

  A metric named `X_iterations` that is zero says that X did not play in this step; its metrics are left out.

  Raises:
    UserError: a loss, or the last weights, are not finite; it names the step. The log holds all steps up to it.
  """
  compiled = jax.jit(step, donate_argnums=0)
  records: list[Record] = []
  log = MetricLog(folder / METRICS) if folder else None
  try:
    with progress(steps, description) as bar:
      waiting = None  # one step is always under way while the one before is logged
      for index in range(1, steps + 1):
        batch = next(batches)
        state, metrics = compiled(state, *batch, key)
        more, stop = observe(index, state, batch) if observe else ({}, False)
        if waiting:
          _finish(waiting, records, log, bar, description)
        waiting = (index, metrics | more)
        if stop:
          break
      if waiting:
        _finish(waiting, records, log, bar, description)
  finally:
    if log:
      log.close()
  if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state.weights))):
    raise UserError(f"{description}: the weights are not finite after step {records[-1]['step']}")
  return state, records


def _finish(waiting, records, log, bar, description) -> None:
  index, metrics = waiting
  metrics = {name: np.asarray(value).tolist() for name, value in jax.device_get(metrics).items()}
  idle = [
    name.removesuffix("_iterations") for name, value in metrics.items() if name.endswith("_iterations") and not value
  ]
  record = {"step": index} | {
    name: value for name, value in metrics.items() if not any(name.startswith(f"{player}_") for player in idle)
  }
  records.append(record)
  if log:
    log.write(record)
  losses = {name.removesuffix("_loss"): value for name, value in record.items() if name.endswith("_loss")}
  bar.update(index, **losses)
  wrong = [name for name, value in losses.items() if not np.isfinite(value)]
  if wrong:
    raise UserError(f"{description}: the {wrong[0].replace('_', ' ')} loss is not finite at step {index}")
