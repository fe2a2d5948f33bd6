"""The numbered checkpoints of a run. They are written in the background, and only the newest ones are kept.

`FOLDER/000100` is the checkpoint after step 100. It is written completely or not at all. Checksums find damage before
anything is read from it (`checkpoint`).
"""

import os
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from ruas_jax.engine.checkpoint import read_about, read_arrays, save_checkpoint
from ruas_jax.engine.packing import layout_of, pack, size_of, unpack
from ruas_jax.engine.run_options import START_ANEW
from ruas_jax.errors import UserError

_PACKED = "packed"  # the name of the one array
_UNFINISHED = re.compile(r"\.\d{6,}\..+")  # temporary names during a write or a removal


class Snapshot(NamedTuple):
  """Attributes:
  step: number of steps before the snapshot.
  about: JSON object with the description of the run and the `layout` of the arrays.
  path: folder of the snapshot.
  """

  step: int
  about: dict[str, Any]
  path: epath.Path

  def read(self, shapes: Any) -> Any:
    """The arrays as numpy arrays, in the structure of `shapes` (`ShapeDtypeStruct`). UserError if the layout
    differs."""
    if self.about["layout"] != layout_of(shapes):
      raise UserError(
        f"checkpoint {self.path}: its arrays have other names, shapes or types than those of this run; resume with the "
        f"same options, {START_ANEW}"
      )
    packed = read_arrays(self.path, {_PACKED: jax.ShapeDtypeStruct((size_of(shapes),), np.uint8)})[_PACKED]
    return unpack(np.asarray(packed), shapes)


class Snapshots:
  """The snapshots of one run in a folder. Use it as a context manager; leaving it waits for the last write."""

  def __init__(self, folder: epath.Path, *, keep: int):
    """`keep` is the number of snapshots to keep, at least 1."""
    self._folder, self._keep = folder, keep
    self._writer = ThreadPoolExecutor(1, thread_name_prefix="snapshots")
    self._under_way: Future | None = None

  def steps(self) -> list[int]:
    """The steps of all snapshots in the folder, healthy or damaged, newest first."""
    inside = self._folder.iterdir() if self._folder.is_dir() else ()
    return sorted((int(path.name) for path in inside if path.name.isdecimal()), reverse=True)

  def at(self, step: int) -> Snapshot:
    """The snapshot after this step. Raises UserError if it is damaged or does not exist."""
    return Snapshot(step, read_about(self.path(step)), self.path(step))

  def path(self, step: int) -> epath.Path:
    """Path of the snapshot after this step, which need not exist."""
    return self._folder / f"{step:06}"

  def newest(self, on_damage: Callable[[str], None]) -> Snapshot | None:
    """The newest healthy snapshot, or None if there is no snapshot. `on_damage` receives a line for each damaged one.

    Raises:
      UserError: all are damaged.
    """
    steps = self.steps()
    for step in steps:
      try:
        return self.at(step)
      except UserError as error:
        on_damage(str(error))
    if steps:
      raise UserError(f"{self._folder}: all checkpoints are damaged; {START_ANEW}")
    return None

  def write(self, step: int, arrays: Any, about: dict[str, Any]) -> None:
    """Waits for the previous write, then begins to write in the background.

    Args:
      step: number of steps before the snapshot.
      arrays: a pytree that is not changed or donated any more.
      about: a JSON object.

    Raises:
      UserError: the previous write failed.
    """
    self.wait()
    self._under_way = self._writer.submit(self._write, step, arrays, about)

  def wait(self) -> None:
    """Waits until the snapshot is on disk. Raises UserError if it cannot be written."""
    under_way, self._under_way = self._under_way, None
    if under_way:
      under_way.result()

  def clean(self) -> None:
    """Removes the incomplete snapshots of a killed process."""
    for path in self._folder.iterdir() if self._folder.is_dir() else ():
      if _UNFINISHED.fullmatch(path.name):
        path.rmtree()

  def __enter__(self) -> "Snapshots":
    return self

  def __exit__(self, kind, *_) -> None:
    try:
      if kind is None:
        self.wait()
    finally:
      self._writer.shutdown()  # waits for a write that is running

  def _write(self, step: int, arrays: Any, about: dict[str, Any]) -> None:
    save_checkpoint(self.path(step), {_PACKED: pack(arrays)}, about | {"layout": layout_of(arrays)})
    # Snapshots of later steps do not belong to this run: it would have been resumed from them if they were healthy.
    steps = [other for other in self.steps() if other != step]
    later, earlier = [other for other in steps if other > step], [other for other in steps if other < step]
    for other in [*later, *earlier[self._keep - 1 :]]:
      path = self.path(other)
      hidden = path.with_name(f".{path.name}.{os.getpid()}.gone")  # renamed first: a half-removed one looks damaged
      path.rename(hidden)
      hidden.rmtree()
