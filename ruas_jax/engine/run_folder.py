"""The run folder. It belongs to one run at a time, holds its configuration, logs and snapshots, and knows from which
snapshot the run is resumed."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from etils import epath

from ruas_jax.engine import leftovers
from ruas_jax.engine.hosts import follow_first_host, require_one_run, told_to_other_hosts
from ruas_jax.engine.leftovers import CONFIG, LOGS, SNAPSHOTS
from ruas_jax.engine.lock import only_run_in
from ruas_jax.engine.preemption import notice_preemption
from ruas_jax.engine.resume import about_run, find_start
from ruas_jax.engine.run_options import RunOptions
from ruas_jax.engine.snapshots import Snapshot, Snapshots
from ruas_jax.errors import UserError
from ruas_jax.files import write_json


@dataclasses.dataclass(frozen=True)
class RunFolder:
  """Attributes:
  path: folder where this process writes; None: it writes nothing, because there is no folder or another host writes.
  run: the run options.
  identity: everything that determines the numbers of the run, as a JSON object.
  arithmetic: name of the arithmetic that determines the last bits of the run; None: it has no name.
  outputs: names of the run's result files.
  snapshots: snapshots of the run; None without a path.
  start: snapshot from which the run is resumed; None for a new run.
  saves: whether any host saves snapshots of the run.
  stopping: function that returns whether SIGTERM has arrived. While the folder is open, SIGTERM has no other effect.
  """

  path: epath.Path | None
  run: RunOptions
  identity: dict[str, Any]
  arithmetic: str | None = None
  outputs: Sequence[str] = ()
  snapshots: Snapshots | None = None
  start: Snapshot | None = None
  saves: bool = False
  stopping: Callable[[], bool] = lambda: False

  def about(self) -> dict[str, Any]:
    """The description of the run in every snapshot."""
    return about_run(self.identity, self.arithmetic)

  def forget_results(self) -> None:
    """Removes the results of the same run with fewer steps."""
    if self.path:
      results = leftovers.outputs_in(self.path, self.outputs)
      leftovers.remove(path for path in results if path.name not in LOGS)


@contextlib.contextmanager
def open_run_folder(
  workdir: str | os.PathLike | None,
  identity: dict[str, Any],
  run: RunOptions,
  *,
  steps: int,
  config: dict[str, Any],
  outputs: Sequence[str],
  members: Sequence[tuple[str, dict[str, Any]]] = (),
  arithmetic: str | None = None,
) -> Iterator[RunFolder]:
  """Opens the folder for this run only, writes `config.json`, and finds the snapshot to resume from.

  Args:
    workdir: any path that `etils.epath` understands; None: the run writes nothing to disk.
    identity: everything that determines the numbers of the run, as a JSON object.
    run: whether an earlier run is resumed (the default), refused or replaced.
    steps: total number of steps.
    config: content of `config.json`.
    outputs: names of the run's result files.
    members: names of the folders and configurations of a population's members.
    arithmetic: name of the arithmetic that determines the last bits of the run. A run with another one is resumed only
      with `allow_other_arithmetic`. None: it has no name, and nothing is compared.

  Raises:
    UserError: the folder holds another run or a damaged one, another process runs in it, or it cannot be written; or
      the hosts have different options or data.
  """
  require_one_run(identity, steps, run)
  if workdir is None:
    yield RunFolder(None, run, identity, arithmetic, outputs)
    return
  folder = epath.Path(workdir).expanduser()
  with contextlib.ExitStack() as stack:
    stopping = stack.enter_context(notice_preemption())
    snapshots = Snapshots(folder / SNAPSHOTS, keep=run.checkpoint.keep)
    if jax.process_index():
      start = follow_first_host(snapshots)
      yield RunFolder(None, run, identity, arithmetic, outputs, None, start, saves=True, stopping=stopping)
      return
    with told_to_other_hosts() as tell:
      try:
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(only_run_in(folder))
        leftovers.tidy(folder, snapshots, outputs)
        if run.overwrite:
          leftovers.clear(folder, outputs)
        elif run.fresh and any(folder.iterdir()):
          raise UserError(
            f"{folder} is not empty, but `fresh` needs an empty folder; set `overwrite` to replace the run in it"
          )
        required = None if run.allow_other_arithmetic else arithmetic
        start = find_start(folder, snapshots, identity, steps, outputs, required)
        write_json(folder / CONFIG, config)
        for name, values in members:
          write_json(folder / name / CONFIG, values)
      except (OSError, ImportError) as error:  # ImportError: a remote folder needs a package that is not installed
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"`workdir` {folder}: cannot be written ({reason})") from None
      tell(start)
    stack.enter_context(snapshots)
    yield RunFolder(folder, run, identity, arithmetic, outputs, snapshots, start, saves=True, stopping=stopping)
