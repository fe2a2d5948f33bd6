"""A run's work directory: whose run it holds, from where that goes on, and that no other run is at work in it."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import optax
from etils import epath
from jax.experimental import multihost_utils

from ruas_jax.config import Config
from ruas_jax.data.sources import ImageSource
from ruas_jax.errors import UserError
from ruas_jax.files import write_json
from ruas_jax.runner.options import RunOptions
from ruas_jax.runtime.environment import versions
from ruas_jax.runtime.lock import only_run_in
from ruas_jax.runtime.preemption import notice_preemption
from ruas_jax.runtime.snapshots import Snapshot, Snapshots

METRICS = "metrics.jsonl"
CONFIG = "config.json"
POPULATION = "population.json"
TENSORBOARD = "tensorboard"
SNAPSHOTS = "snapshots"
OUTPUTS = (
  # The snapshots first: without them, what is left is nobody's run to go on with.
  *(SNAPSHOTS, METRICS, "genotype.json", "alpha.npz", "alpha.png", "genotype.png", "losses.png", "checkpoint", "state"),
  *(POPULATION, "population.png", TENSORBOARD),
)
_FORMAT = 3  # of what a snapshot's arrays and description say
_MEMBER = re.compile(r"member_\d{3,}")
_UNFINISHED = re.compile(rf"\.({'|'.join(map(re.escape, (*OUTPUTS, CONFIG)))})\.\d+(\.\w+)?")  # as `files` names it


@dataclasses.dataclass(frozen=True)
class Workdir:
  """Attributes:
  folder: where this process writes; None where it writes nothing: there is no work directory, or another host writes.
  run: the options.
  identity: what decides every number of the run, as a JSON object.
  snapshots: in which the run is saved; None without a folder.
  start: from which it goes on; None at its beginning.
  saves: whether the run has snapshots at all, by whichever host.
  stopping: whether SIGTERM has come; as long as the directory is open, it does nothing else.
  """

  folder: epath.Path | None
  run: RunOptions
  identity: dict[str, Any]
  snapshots: Snapshots | None = None
  start: Snapshot | None = None
  saves: bool = False
  stopping: Callable[[], bool] = lambda: False

  def about(self) -> dict[str, Any]:
    """What every snapshot says of its run."""
    return {"format": _FORMAT, "identity": self.identity, "versions": versions()}

  def forget_results(self) -> None:
    """Removes what a run with fewer steps had found: it is not this run's."""
    if self.folder:
      _remove(path for path in _outputs(self.folder) if path.name not in (SNAPSHOTS, METRICS, TENSORBOARD))


def identify(kind: str, config: Config, *ignored: str, images: dict[str, ImageSource], **more: Any) -> dict[str, Any]:
  """What decides every number of a run, so that a snapshot of another run is not gone on with.

  Args:
    kind: search, population or train.
    config: of the experiment.
    ignored: its options that the numbers do not depend on, by path, or that may grow.
    images: the sources, by their use; of each, the number, the names and the sizes count.
    more: what counts besides: JSON values, and functions and optimisers that were given in place of the configured
      ones, which count by their names.
  """
  values = dataclasses.asdict(config)
  for path in (*ignored, "data.placement", "data.tfds_dir"):
    *rooms, last = path.split(".")
    inner = values
    for room in rooms:
      inner = inner[room]
    del inner[last]
  described = {name: _describe(source) for name, source in images.items()}
  return _plain({"kind": kind, "config": values, "images": described} | more)


def _name_of(given: Callable | optax.GradientTransformation) -> str:
  function = getattr(given, "update", given)
  return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"


@contextlib.contextmanager
def open_workdir(
  workdir: str | os.PathLike | None,
  config: Config,
  identity: dict[str, Any],
  run: RunOptions,
  *,
  steps: int,
  members: Sequence[tuple[str, Config]] = (),
) -> Iterator[Workdir]:
  """Opens the work directory for this run alone, writes `config.json`, and finds where an earlier process stopped.

  Args:
    workdir: any path that `etils.epath` understands; None: the run leaves nothing on disk.
    config: of the experiment.
    identity: of the run, from `identify`.
    run: whether an earlier run is gone on with (the default), refused or replaced.
    steps: that the run is to have in the end.
    members: of a population, the names of their folders and their configurations.

  Raises:
    UserError: there is another run, it is damaged, one is at work there, or the folder cannot be written; or the hosts
      were not asked for the same.
  """
  _require_one_run(identity, steps, run)
  if workdir is None:
    yield Workdir(None, run, identity)
    return
  folder = epath.Path(workdir).expanduser()
  with contextlib.ExitStack() as stack:
    stopping = stack.enter_context(notice_preemption())
    snapshots = Snapshots(folder / SNAPSHOTS, keep=run.checkpoint.keep)
    if jax.process_index():
      start = _follow(snapshots)
      yield Workdir(None, run, identity, None, start, saves=True, stopping=stopping)
      return
    with _told_to_other_hosts() as tell:
      try:
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(only_run_in(folder))
        _tidy(folder, snapshots)
        if run.overwrite:
          _clear(folder)
        elif run.fresh and any(folder.iterdir()):
          raise UserError(f"{folder} is not empty, and --fresh begins anew; --overwrite replaces the run that is there")
        start = _find_start(folder, snapshots, identity, steps)
        write_json(folder / CONFIG, dataclasses.asdict(config))
        for name, own in members:
          write_json(folder / name / CONFIG, dataclasses.asdict(own))
      except (OSError, ImportError) as error:  # the second where a remote place needs another package
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--workdir {folder}: cannot be written ({reason})") from None
      tell(-1 if start is None else start.step)
    stack.enter_context(snapshots)
    yield Workdir(folder, run, identity, snapshots, start, saves=True, stopping=stopping)


def say(text: str) -> None:
  """One line for the user that is no result."""
  print(f"ruas: {text}", file=sys.stderr)


def _find_start(folder: epath.Path, snapshots: Snapshots, identity: dict[str, Any], steps: int) -> Snapshot | None:
  start = snapshots.newest(on_damage=say)
  if start is None:
    if any(path.name != SNAPSHOTS for path in _outputs(folder)):  # an empty one was killed in its first write
      raise UserError(
        f"{folder} holds a run already, and no snapshot to go on from; choose another --workdir, or replace it with "
        "--overwrite"
      )
    return None
  about = start.about
  if about.get("format") != _FORMAT:
    raise UserError(f"{start.path}: of another version (format {about.get('format')}, and this one reads {_FORMAT})")
  others = list(_differences(about["identity"], identity))
  if others:
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    raise UserError(
      f"{folder} holds another run: {others[0]}{more}; choose another --workdir, or replace it with --overwrite"
    )
  if start.step > steps:
    raise UserError(f"{folder} holds a run that has {start.step} steps already, more than {steps}")
  for name, version in versions().items():
    if (before := about["versions"].get(name, version)) != version:
      say(f"{folder} was left by {name} {before}, and goes on with {version}: the last bits may be others")
  if snapshots.steps() != [0]:  # every run begins there
    say(f"going on after step {start.step} with {start.path}")
  return start


def _differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
  """In words, by path."""
  if isinstance(before, dict) and isinstance(now, dict):
    for name in [*before, *(name for name in now if name not in before)]:
      yield from _differences(before.get(name), now.get(name), f"{path}.{name}" if path else name)
  elif before != now:
    yield f"{path.removeprefix('config.')} was {before!r} and is {now!r}"


def _members(folder: epath.Path) -> list[epath.Path]:
  """The folders of a population's members."""
  return [path for path in sorted(folder.iterdir()) if _MEMBER.fullmatch(path.name) and (path / CONFIG).exists()]


def _outputs(folder: epath.Path) -> list[epath.Path]:
  """All that runs wrote here, in a population's member folders too, but for the configurations."""
  return [place / name for place in (folder, *_members(folder)) for name in OUTPUTS if (place / name).exists()]


def _tidy(folder: epath.Path, snapshots: Snapshots) -> None:
  """Removes what killed processes left half-written."""
  snapshots.clean()
  places = (folder, *_members(folder))
  _remove([path for place in places for path in place.iterdir() if _UNFINISHED.fullmatch(path.name)])


def _clear(folder: epath.Path) -> None:
  """Removes what runs wrote, so that a run that fails leaves no other run's results; what is not theirs stays."""
  _remove(_outputs(folder))
  for path in _members(folder):
    (path / CONFIG).unlink()
    if not any(path.iterdir()):
      path.rmdir()


def _remove(paths: Iterable[epath.Path]) -> None:
  for path in paths:
    if path.is_dir():
      path.rmtree()
    else:
      path.unlink()


def _describe(source: ImageSource) -> str:
  listed = "\n".join(f"{name} {size}" for name, size in zip(source.names, _plain(source.sizes()), strict=True))
  return f"{len(source)} images, {hashlib.sha256(listed.encode()).hexdigest()[:12]}"


def _plain(value: Any) -> Any:
  """As JSON gives it back."""
  if isinstance(value, dict):
    return {name: _plain(item) for name, item in value.items()}
  if callable(value) or isinstance(value, optax.GradientTransformation):
    return _name_of(value)
  if isinstance(value, list | tuple):
    return [_plain(item) for item in value]
  return value.item() if isinstance(value, np.generic) else value


def _require_one_run(identity: dict[str, Any], steps: int, run: RunOptions) -> None:
  """Raises UserError, on every host, where they do not see the same images or were given other options: each would wait
  for the others in other places, or take their numbers for its own."""
  if jax.process_count() > 1:
    asked = json.dumps([identity, steps, dataclasses.asdict(run)])
    own = np.frombuffer(hashlib.sha256(asked.encode()).digest(), np.uint8)
    if (multihost_utils.process_allgather(own) != own).any():
      raise UserError("the hosts see other images, or were given other options")


@contextlib.contextmanager
def _told_to_other_hosts() -> Iterator[Any]:
  """What the first host found reaches the others, its failure too."""
  told = -2

  def tell(step: int) -> None:
    nonlocal told
    told = step

  try:
    yield tell
  finally:
    if jax.process_count() > 1:
      multihost_utils.broadcast_one_to_all(np.int32(told))


def _follow(snapshots: Snapshots) -> Snapshot | None:
  """The start that the first host chose, in the folder that all share."""
  step = int(multihost_utils.broadcast_one_to_all(np.int32(0)))
  if step == -2:
    raise UserError("the first host cannot begin the run; it says why")
  return None if step < 0 else snapshots.at(step)
