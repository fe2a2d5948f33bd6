"""Checkpoints: a folder with `arrays` as orbax writes them and `about.json`, there whole or not at all.

`checksums.json` in it holds the SHA-256 of every file. Damage is found by it before orbax reads, which meets damage
with pages of tracebacks, or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
from etils import epath

from ruas_jax.errors import UserError
from ruas_jax.files import sync

if TYPE_CHECKING:  # orbax takes a third of a second to import: functions that use it do so themselves
  import orbax.checkpoint as ocp

_CHECKSUMS = "checksums.json"
_OVERHEAD = 2**20  # bytes: more than orbax writes beside the arrays
_ARRAYS, _ABOUT = "arrays", "about.json"


def save_checkpoint(folder: str | os.PathLike, arrays: Any, about: dict[str, Any]) -> None:
  """Writes the pytree `arrays`, which this process can read whole, and the JSON object `about` into `folder`, in place
  of one that is there.

  Raises:
    UserError: the folder cannot be written.
  """
  import orbax.checkpoint as ocp

  shown, folder, arrays = folder, absolute(folder), jax.device_get(arrays)
  new, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{age}") for age in ("new", "old"))
  try:
    _require_room(new, arrays)
    (new / _ARRAYS).mkdir(parents=True, exist_ok=True)
    with _one_voice(), contextlib.closing(_handler()) as handler:
      handler.save(new / _ARRAYS, args=ocp.args.StandardSave(arrays))
    (new / _ABOUT).write_text(json.dumps(about))
    (new / _CHECKSUMS).write_text(json.dumps(_checksums(new)))
    sync(new / _ABOUT, new / _CHECKSUMS, new / _ARRAYS, new)  # orbax's files are synced
    if folder.exists():
      folder.rename(old)
    new.rename(folder)
    sync(folder.parent)
    if old.exists():
      old.rmtree()
  except Exception as error:  # orbax raises many kinds
    with contextlib.suppress(OSError):
      new.rmtree()
    raise UserError(f"{shown}: the checkpoint cannot be written ({_system_reason(error)})") from None


def _require_room(folder: epath.Path, arrays: Any) -> None:
  """Raises the OSError of a full disk, which orbax meets with pages of tracebacks; remote places have none."""
  if "://" in os.fspath(folder):
    return
  folder.mkdir(parents=True, exist_ok=True)
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
  try:
    (folder / "room").write_bytes(bytes(size + _OVERHEAD))
  finally:
    folder.rmtree()


def is_checkpoint(folder: str | os.PathLike) -> bool:
  """Whether the folder has the parts of a checkpoint, sound or not."""
  return (absolute(folder) / _ARRAYS).is_dir()


def read_about(folder: str | os.PathLike) -> dict[str, Any]:
  """The JSON object of a checkpoint whose every file is what was written.

  Raises:
    UserError: there is none, or it is damaged.
  """
  if not is_checkpoint(folder):
    raise UserError(f"no checkpoint at {folder}")
  _verify(absolute(folder), folder)
  if not (absolute(folder) / _ABOUT).exists():
    raise UserError(f"checkpoint {folder} is of another version: it has no {_ABOUT}")
  return json.loads((absolute(folder) / _ABOUT).read_text())


def read_arrays(folder: str | os.PathLike, shapes: Any) -> Any:
  """The arrays of a checkpoint that `read_about` found sound, as the pytree of `ShapeDtypeStruct` says, converted to
  its dtypes.

  Raises:
    UserError: they have other names or shapes.
  """
  import orbax.checkpoint as ocp

  # It may have been saved on another kind or number of devices.
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), shapes)
  with contextlib.closing(_handler()) as handler:
    try:
      return handler.restore(absolute(folder) / _ARRAYS, args=ocp.args.StandardRestore(shapes))
    except Exception as error:  # orbax raises many kinds
      raise UserError(
        f"checkpoint {folder} holds other arrays than its description says: {_first_line(error)}"
      ) from None


@contextlib.contextmanager
def _one_voice() -> Iterator[None]:
  """Inside, orbax's threads do not log the traceback of what it raises as well."""
  logger = logging.getLogger("absl")
  level = logger.level
  logger.setLevel(logging.CRITICAL)
  try:
    yield
  finally:
    logger.setLevel(level)


def _handler() -> ocp.StandardCheckpointHandler:
  """Of this process alone: one host writes while the others go on, and each reads for itself.

  A file for each array: it is written in half the time of a database of all of them, which is for larger ones.
  """
  import orbax.checkpoint as ocp

  alone = {}
  if jax.process_count() > 1:
    own = jax.process_index()
    alone["multiprocessing_options"] = ocp.options.MultiprocessingOptions(
      primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"host_{own}"
    )
  return ocp.StandardCheckpointHandler(use_ocdbt=False, **alone)


def _checksums(folder: epath.Path) -> dict[str, str]:
  return {
    os.fspath(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
    for file in sorted(_files(folder))
    if file.name != _CHECKSUMS
  }


def _files(folder: epath.Path) -> Iterator[epath.Path]:
  """All below; `epath`'s own walk loses what remote paths begin with."""
  for path in folder.iterdir():
    if path.is_dir():
      yield from _files(path)
    else:
      yield path


def _verify(folder: epath.Path, path) -> None:
  try:
    expected, found = json.loads((folder / _CHECKSUMS).read_text()), _checksums(folder)
  except (OSError, ValueError) as error:
    raise UserError(f"checkpoint {path} is damaged or incomplete: {_CHECKSUMS}: {_first_line(error)}") from None
  damaged = sorted(name for name in expected if found.get(name) != expected[name])
  if damaged:
    raise UserError(f"checkpoint {path} is damaged: {damaged[0]} is {'changed' if damaged[0] in found else 'missing'}")


def absolute(path: str | os.PathLike) -> epath.Path:
  """As orbax wants it; remote paths are so already."""
  path = epath.Path(path)
  return path if "://" in os.fspath(path) else path.expanduser().resolve()


def _system_reason(error: Exception) -> str:
  """What the system said, which tensorstore hides at the end of a long line."""
  code = getattr(error, "errno", None) or next(iter(re.findall(r"os_error_code='(\d+)'", str(error))), None)
  return os.strerror(int(code)) if code else _first_line(error)


def _first_line(error: Exception) -> str:
  return next(iter(str(error).splitlines()), type(error).__name__)
