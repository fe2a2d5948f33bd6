"""A run's folder: it belongs to one run at a time, keeps its configuration, logs and snapshots, and says from where the
run goes on."""

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
  path: where this process writes; None where it writes nothing: there is no folder, or another host writes.
  run: the options.
  identity: what decides every number of the run, as a JSON object.
  outputs: names of the files that the run's results have.
  snapshots: in which the run is saved; None without a path.
  start: from which it goes on; None at its beginning.
  saves: whether the run has snapshots at all, by whichever host.
  stopping: whether SIGTERM has come; as long as the folder is open, it does nothing else.
  """

  path: epath.Path | None
  run: RunOptions
  identity: dict[str, Any]
  outputs: Sequence[str] = ()
  snapshots: Snapshots | None = None
  start: Snapshot | None = None
  saves: bool = False
  stopping: Callable[[], bool] = lambda: False

  def about(self) -> dict[str, Any]:
    """What every snapshot says of its run."""
    return about_run(self.identity)

  def forget_results(self) -> None:
    """Removes the results of a run with fewer steps: they are not this run's."""
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
) -> Iterator[RunFolder]:
  """Opens the folder for this run alone, writes `config.json`, and finds where an earlier process stopped.

  Args:
    workdir: any path that `etils.epath` understands; None: the run leaves nothing on disk.
    identity: what decides every number of the run, as a JSON object.
    run: whether an earlier run is resumed (the default), refused or replaced.
    steps: that the run is to have in the end.
    config: what `config.json` says of the run.
    outputs: names of the files that the run's results have.
    members: of a population, the names of their folders and their configurations.

  Raises:
    UserError: there is another run, it is damaged, another process runs there, or the folder cannot be written; or the
      hosts were not given the same.
  """
  require_one_run(identity, steps, run)
  if workdir is None:
    yield RunFolder(None, run, identity, outputs)
    return
  folder = epath.Path(workdir).expanduser()
  with contextlib.ExitStack() as stack:
    stopping = stack.enter_context(notice_preemption())
    snapshots = Snapshots(folder / SNAPSHOTS, keep=run.checkpoint.keep)
    if jax.process_index():
      start = follow_first_host(snapshots)
      yield RunFolder(None, run, identity, outputs, None, start, saves=True, stopping=stopping)
      return
    with told_to_other_hosts() as tell:
      try:
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(only_run_in(folder))
        leftovers.tidy(folder, snapshots, outputs)
        if run.overwrite:
          leftovers.clear(folder, outputs)
        elif run.fresh and any(folder.iterdir()):
          raise UserError(f"{folder} is not empty, and --fresh starts anew; --overwrite replaces the run that is there")
        start = find_start(folder, snapshots, identity, steps, outputs)
        write_json(folder / CONFIG, config)
        for name, values in members:
          write_json(folder / name / CONFIG, values)
      except (OSError, ImportError) as error:  # the second where a remote folder needs another package
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--workdir {folder}: cannot be written ({reason})") from None
      tell(start)
    stack.enter_context(snapshots)
    yield RunFolder(folder, run, identity, outputs, snapshots, start, saves=True, stopping=stopping)
