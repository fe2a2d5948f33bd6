"""The metrics file of a run: one JSON object per line.

The file is strict JSON: NaN and infinities become null, because JSON cannot express them. A killed run loses at most
the line that it was writing, and a new `MetricLog` continues after the last complete line.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath

from ruas_jax.engine.run_options import START_ANEW
from ruas_jax.errors import UserError
from ruas_jax.files import sync, write_atomically

_REMOTE_SECONDS = 30.0  # time between two uploads of a remote log


def to_json_value(value: Any) -> Any:
  """The value as JSON types: arrays become (nested) lists, NaN and infinities None. Raises TypeError for other
  types."""
  if value is None or isinstance(value, str | bool | int):
    return value
  if isinstance(value, float):
    return value if math.isfinite(value) else None
  if isinstance(value, Mapping):
    return {str(key): to_json_value(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [to_json_value(item) for item in value]
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  if hasattr(value, "tolist"):  # numpy and jax scalars and arrays
    return to_json_value(value.tolist())
  raise TypeError(f"a value of type {type(value).__name__} cannot be written as JSON: {value!r}")


class Position(NamedTuple):
  """A position in a log: number of bytes before it, and their SHA-256."""

  size: int
  sha256: str


class MetricLog:
  """Appends records to a file, one JSON object per line. Use it as a context manager.

  Records survive a kill of the process when `write` returns, and a power failure when `position` returns. An existing
  file is continued: an incomplete last line is removed first. With `until`, everything after that position is removed.

  Raises:
    UserError: the file cannot be read or written, or its content up to `until` has changed.
  """

  def __init__(self, path: str | os.PathLike, until: Position | None = None):
    self._path = epath.Path(path)
    there = _read_bytes(self._path) if self._path.exists() else b""
    content = there[: until.size] if until else _complete_lines(_decode(there)).encode()
    self._size, self._digest = len(content), hashlib.sha256(content)
    if until and self._position() != until:
      raise UserError(f"{path}: its first {until.size} bytes have changed since the run wrote them; {START_ANEW}")
    if content != there or not self._path.exists():
      write_atomically(self._path, content)
    # Object stores cannot append: a remote log is kept in memory and uploaded twice a minute and on closing.
    self._content, self._written = content if _is_remote(self._path) else None, time.monotonic()

  def write(self, *records: Mapping[str, Any]) -> None:
    """Appends records: dictionaries from name to number, text, list or object; numpy and jax scalars are allowed."""
    lines = "".join(json.dumps(to_json_value(record), allow_nan=False) + "\n" for record in records).encode()
    if self._content is None:
      try:
        with self._path.open("ab") as file:  # a large population has more logs than open files allowed
          file.write(lines)
      except OSError as error:
        raise UserError(f"{self._path}: cannot be written ({error.strerror or error})") from None
    else:
      self._content += lines
      if time.monotonic() - self._written >= _REMOTE_SECONDS:
        self.close()
    self._size += len(lines)
    self._digest.update(lines)

  def position(self) -> Position:
    """The present end of the log, which is then on disk."""
    self.close()
    sync(self._path)
    return self._position()

  def close(self) -> None:
    """Writes everything that is not on disk yet."""
    if self._content is not None:
      write_atomically(self._path, self._content)
      self._written = time.monotonic()

  def _position(self) -> Position:
    return Position(self._size, self._digest.hexdigest())

  def __enter__(self) -> "MetricLog":
    return self

  def __exit__(self, *_) -> None:
    self.close()


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
  """All records of a log, oldest first; NaN and infinities are None. An incomplete last line is ignored.

  Raises:
    UserError: the file cannot be read, or a line is not a JSON object (the message names the line).
  """
  records = []
  for number, line in enumerate(_complete_lines(_decode(_read_bytes(epath.Path(path)))).split("\n")[:-1], start=1):
    record = _parse(line)
    if record is None:
      raise UserError(f"{path}, line {number}: not a JSON object")
    records.append(record)
  return records


def _is_remote(path: epath.Path) -> bool:
  return "://" in os.fspath(path)


def _read_bytes(path: epath.Path) -> bytes:
  try:
    return path.read_bytes()
  except OSError as error:
    raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def _decode(content: bytes) -> str:
  return content.decode("utf-8", errors="replace")  # invalid text becomes an invalid line, with a number


def _complete_lines(text: str) -> str:
  """The text without an incomplete last line: one without a newline that is not a whole record either."""
  head, newline, last = text.rpartition("\n")
  return head + newline if _parse(last) is None else text + "\n"


def _parse(line: str) -> dict[str, Any] | None:
  try:
    record = json.loads(line)
  except json.JSONDecodeError:
    return None
  return record if isinstance(record, dict) else None
