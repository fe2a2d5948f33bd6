"""The numbered checkpoints of a run: written in the background, the last few kept, the newest sound one found again.

`FOLDER/000100` is the checkpoint after step 100. It appears whole or not at all, and damage in it is found by its
checksums before anything is read from it (`checkpoint`).
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
from ruas_jax.errors import UserError

_PACKED = "packed"  # the name of the one array
_UNFINISHED = re.compile(r"\.\d{6,}\..+")  # names that a write, and a removal, have for a while


class Snapshot(NamedTuple):
  """Attributes:
  step: after which it was taken.
  about: its JSON object, and the `layout` of its arrays.
  path: its folder.
  """

  step: int
  about: dict[str, Any]
  path: epath.Path

  def read(self, shapes: Any) -> Any:
    """The arrays, numpy's, as the pytree of `jax.ShapeDtypeStruct` says; UserError where they are others."""
    if self.about["layout"] != layout_of(shapes):
      raise UserError(f"checkpoint {self.path} holds other arrays than this run has")
    packed = read_arrays(self.path, {_PACKED: jax.ShapeDtypeStruct((size_of(shapes),), np.uint8)})[_PACKED]
    return unpack(np.asarray(packed), shapes)


class Snapshots:
  """The snapshots in a folder, of one run at a time. A context manager: leaving it waits for the last write."""

  def __init__(self, folder: epath.Path, *, keep: int):
    """`keep` is how many stay, at least 1."""
    self._folder, self._keep = folder, keep
    self._writer = ThreadPoolExecutor(1, thread_name_prefix="snapshots")
    self._under_way: Future | None = None

  def steps(self) -> list[int]:
    """Of all that are there, sound or not, the newest first."""
    inside = self._folder.iterdir() if self._folder.is_dir() else ()
    return sorted((int(path.name) for path in inside if path.name.isdecimal()), reverse=True)

  def at(self, step: int) -> Snapshot:
    """The one after this step; UserError where it is damaged, or not there."""
    return Snapshot(step, read_about(self.path(step)), self.path(step))

  def path(self, step: int) -> epath.Path:
    """Where the one after this step lies, if there is one."""
    return self._folder / f"{step:06}"

  def newest(self, on_damage: Callable[[str], None]) -> Snapshot | None:
    """The newest sound one, or None where there is none at all; `on_damage` hears of each that is passed over.

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
      raise UserError(f"{self._folder}: no checkpoint in it is sound; --fresh --overwrite begins anew")
    return None

  def write(self, step: int, arrays: Any, about: dict[str, Any]) -> None:
    """Begins to write, after the end of the write before.

    Args:
      step: after which `arrays` were taken.
      arrays: a pytree that nobody changes or donates any more.
      about: a JSON object.

    Raises:
      UserError: the write before failed.
    """
    self.wait()
    self._under_way = self._writer.submit(self._write, step, arrays, about)

  def wait(self) -> None:
    """Until what was written is on disk; UserError where it could not be."""
    under_way, self._under_way = self._under_way, None
    if under_way:
      under_way.result()

  def clean(self) -> None:
    """Removes what a killed process left half-written or half-removed."""
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
      self._writer.shutdown()  # a write under way is not cut off

  def _write(self, step: int, arrays: Any, about: dict[str, Any]) -> None:
    save_checkpoint(self.path(step), {_PACKED: pack(arrays)}, about | {"layout": layout_of(arrays)})
    # What lies ahead is a future that this run does not come from: it was damaged, or it would have gone on from there.
    others = [other for other in self.steps() if other != step]
    for other in [*(o for o in others if o > step), *[o for o in others if o < step][self._keep - 1 :]]:
      path = self.path(other)
      hidden = path.with_name(f".{path.name}.{os.getpid()}.gone")  # at once: a half-removed one would count as damaged
      path.rename(hidden)
      hidden.rmtree()
