"""The files that runs write into a run folder, and how they are removed; files of others stay."""

import re
from collections.abc import Iterable

from etils import epath

from ruas_jax.engine.snapshots import Snapshots

METRICS = "metrics.jsonl"
CONFIG = "config.json"
TENSORBOARD = "tensorboard"
SNAPSHOTS = "snapshots"
LOGS = (SNAPSHOTS, METRICS, TENSORBOARD)
"""What a run writes while it goes on. The snapshots first: what is left without them cannot be resumed by any run."""
_MEMBER = re.compile(r"member_\d{3,}")


def member_name(position: int) -> str:
  """The folder of a population's member."""
  return f"member_{position:03}"


def outputs_in(folder: epath.Path, names: Iterable[str]) -> list[epath.Path]:
  """What runs wrote here and in the folders of members: logs and `names`, but not the configurations."""
  names = list(dict.fromkeys((*LOGS, *names)))
  return [within / name for within in (folder, *_members(folder)) for name in names if (within / name).exists()]


def tidy(folder: epath.Path, snapshots: Snapshots, names: Iterable[str]) -> None:
  """Removes what killed processes left half-written."""
  snapshots.clean()
  listed = "|".join(map(re.escape, (*LOGS, CONFIG, *names)))
  unfinished = re.compile(rf"\.({listed})\.\d+(\.\w+)?")  # as `files` names it
  folders = (folder, *_members(folder))
  remove([path for within in folders for path in within.iterdir() if unfinished.fullmatch(path.name)])


def clear(folder: epath.Path, names: Iterable[str]) -> None:
  """Removes what runs wrote, so that a run that fails leaves no other run's results."""
  remove(outputs_in(folder, names))
  for path in _members(folder):
    (path / CONFIG).unlink()
    if not any(path.iterdir()):
      path.rmdir()


def remove(paths: Iterable[epath.Path]) -> None:
  """Files, and folders with all that is in them."""
  for path in paths:
    if path.is_dir():
      path.rmtree()
    else:
      path.unlink()


def _members(folder: epath.Path) -> list[epath.Path]:
  return [path for path in sorted(folder.iterdir()) if _MEMBER.fullmatch(path.name) and (path / CONFIG).exists()]
