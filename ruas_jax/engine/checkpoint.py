"""Checkpoints: a folder with `arrays` in orbax's format and `about.json`. It is written completely or not at all.

`checksums.json` holds the SHA-256 of every file. It is checked before orbax reads, because orbax reports damage with
pages of tracebacks, or not at all.
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

if TYPE_CHECKING:  # importing orbax takes a third of a second, so only the functions that use it import it
  import orbax.checkpoint as ocp

_CHECKSUMS = "checksums.json"
_OVERHEAD = 2**20  # bytes: upper limit for what orbax writes in addition to the arrays
_ARRAYS, _ABOUT = "arrays", "about.json"


def save_checkpoint(folder: str | os.PathLike, arrays: Any, about: dict[str, Any]) -> None:
  """Writes the pytree `arrays` and the JSON object `about` into `folder`; replaces a checkpoint that exists there.

  Every array must be fully readable by this process.

  Raises:
    UserError: the folder cannot be written.
  """
  import orbax.checkpoint as ocp

  shown, folder, arrays = folder, absolute(folder), jax.device_get(arrays)
  new, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{age}") for age in ("new", "old"))
  try:
    _require_room(new, arrays)
    (new / _ARRAYS).mkdir(parents=True, exist_ok=True)
    with _without_thread_tracebacks(), contextlib.closing(_handler()) as handler:
      handler.save(new / _ARRAYS, args=ocp.args.StandardSave(arrays))
    (new / _ABOUT).write_text(json.dumps(about))
    (new / _CHECKSUMS).write_text(json.dumps(_checksums(new)))
    sync(new / _ABOUT, new / _CHECKSUMS, new / _ARRAYS, new)  # orbax syncs its files itself
    if folder.exists():
      folder.rename(old)
    new.rename(folder)
    sync(folder.parent)
    if old.exists():
      old.rmtree()
  except Exception as error:  # orbax raises exceptions of many types
    with contextlib.suppress(OSError):
      new.rmtree()
    raise UserError(f"{shown}: the checkpoint cannot be written ({_system_reason(error)})") from None


def _require_room(folder: epath.Path, arrays: Any) -> None:
  """Raises OSError if the disk is full, because orbax reports it with pages of tracebacks. Remote paths are skipped."""
  if "://" in os.fspath(folder):
    return
  folder.mkdir(parents=True, exist_ok=True)
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
  try:
    (folder / "room").write_bytes(bytes(size + _OVERHEAD))
  finally:
    folder.rmtree()


def is_checkpoint(folder: str | os.PathLike) -> bool:
  """Whether the folder has the parts of a checkpoint, healthy or damaged."""
  return (absolute(folder) / _ARRAYS).is_dir()


def read_about(folder: str | os.PathLike) -> dict[str, Any]:
  """The JSON object of a checkpoint, after checking the checksums of all its files.

  Raises:
    UserError: the folder holds no checkpoint, or a damaged one.
  """
  if not is_checkpoint(folder):
    raise UserError(f"no checkpoint at {folder}")
  _verify(absolute(folder), folder)
  if not (absolute(folder) / _ABOUT).exists():
    raise UserError(f"checkpoint {folder} was written by another version of ruas_jax: it has no {_ABOUT}")
  return json.loads((absolute(folder) / _ABOUT).read_text())


def read_arrays(folder: str | os.PathLike, shapes: Any) -> Any:
  """The arrays of a checkpoint that `read_about` has checked, with the structure and dtypes of `shapes`, a pytree of
  `ShapeDtypeStruct`.

  Raises:
    UserError: the arrays in the checkpoint have other names or shapes.
  """
  import orbax.checkpoint as ocp

  # The checkpoint may have been saved on another kind or number of devices.
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), shapes)
  with contextlib.closing(_handler()) as handler:
    try:
      return handler.restore(absolute(folder) / _ARRAYS, args=ocp.args.StandardRestore(shapes))
    except Exception as error:  # orbax raises exceptions of many types
      raise UserError(f"checkpoint {folder}: its arrays do not match its description: {_first_line(error)}") from None


@contextlib.contextmanager
def _without_thread_tracebacks() -> Iterator[None]:
  """Context in which orbax's threads do not log the tracebacks of exceptions that are raised anyway."""
  logger = logging.getLogger("absl")
  level = logger.level
  logger.setLevel(logging.CRITICAL)
  try:
    yield
  finally:
    logger.setLevel(level)


def _handler() -> ocp.StandardCheckpointHandler:
  """A handler that works in this process only: one host writes while the others continue, and every host reads alone.

  It writes one file for each array. That takes half the time of orbax's database, which is made for larger arrays.
  """
  import orbax.checkpoint as ocp

  alone = {}
  if jax.process_count() > 1:
    index = jax.process_index()
    alone["multiprocessing_options"] = ocp.options.MultiprocessingOptions(
      primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"host_{index}"
    )
  return ocp.StandardCheckpointHandler(use_ocdbt=False, **alone)


def _checksums(folder: epath.Path) -> dict[str, str]:
  return {
    os.fspath(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
    for file in sorted(_files(folder))
    if file.name != _CHECKSUMS
  }


def _files(folder: epath.Path) -> Iterator[epath.Path]:
  """All files below the folder. `epath`'s walk drops the beginning of remote paths."""
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
  """An absolute path, which orbax needs; a remote path is absolute already."""
  path = epath.Path(path)
  return path if "://" in os.fspath(path) else path.expanduser().resolve()


def _system_reason(error: Exception) -> str:
  """The system's reason for an error; tensorstore hides it at the end of a long line."""
  code = getattr(error, "errno", None) or next(iter(re.findall(r"os_error_code='(\d+)'", str(error))), None)
  return os.strerror(int(code)) if code else _first_line(error)


def _first_line(error: Exception) -> str:
  return next(iter(str(error).splitlines()), type(error).__name__)
