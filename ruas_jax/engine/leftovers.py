"""The files that a run writes into its folder, and how they are removed. Other files are not touched."""

import re
from collections.abc import Iterable

from etils import epath

from ruas_jax.engine.snapshots import Snapshots

METRICS = "metrics.jsonl"
CONFIG = "config.json"
TENSORBOARD = "tensorboard"
SNAPSHOTS = "snapshots"
LOGS = (SNAPSHOTS, METRICS, TENSORBOARD)
"""The files that a run writes during its steps. Snapshots are removed first: no run can be resumed without them."""
_MEMBER = re.compile(r"member_\d{3,}")


def member_name(position: int) -> str:
  """Name of the folder of a population's member."""
  return f"member_{position:03}"


def outputs_in(folder: epath.Path, names: Iterable[str]) -> list[epath.Path]:
  """Files of runs in this folder and in the members' folders: logs and `names`, but not the configurations."""
  names = list(dict.fromkeys((*LOGS, *names)))
  return [within / name for within in (folder, *_members(folder)) for name in names if (within / name).exists()]


def tidy(folder: epath.Path, snapshots: Snapshots, names: Iterable[str]) -> None:
  """Removes the incomplete files of killed processes."""
  snapshots.clean()
  listed = "|".join(map(re.escape, (*LOGS, CONFIG, *names)))
  unfinished = re.compile(rf"\.({listed})\.\d+(\.\w+)?")  # the temporary names of `files`
  folders = (folder, *_members(folder))
  remove([path for within in folders for path in within.iterdir() if unfinished.fullmatch(path.name)])


def clear(folder: epath.Path, names: Iterable[str]) -> None:
  """Removes the files of earlier runs, so that a failed run does not leave the results of another run."""
  remove(outputs_in(folder, names))
  for path in _members(folder):
    (path / CONFIG).unlink()
    if not any(path.iterdir()):
      path.rmdir()


def remove(paths: Iterable[epath.Path]) -> None:
  """Removes files, and folders with their content."""
  for path in paths:
    if path.is_dir():
      path.rmtree()
    else:
      path.unlink()


def _members(folder: epath.Path) -> list[epath.Path]:
  return [path for path in sorted(folder.iterdir()) if _MEMBER.fullmatch(path.name) and (path / CONFIG).exists()]
