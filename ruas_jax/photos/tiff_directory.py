"""TIFF directories, which EXIF also consists of, read and written entry by entry.

Values stay the bytes of the file, so text in any encoding and values of unusual kinds do not change. A directory is
written with the byte order that it was read with.
"""

import dataclasses
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
_LETTERS = {1: "B", 2: "B", 3: "H", 4: "I", 5: "I", 6: "b", 7: "B", 8: "h", 9: "i", 10: "i", 11: "f", 12: "d"}
_NUMBERS_EACH = {5: 2, 10: 2}  # a fraction is a pair of integers
ORIENTATION, XMP, IPTC, EXIF, PROFILE, GPS, INTEROPERABILITY = 274, 700, 33723, 34665, 34675, 34853, 40965
_NESTED = {EXIF: {INTEROPERABILITY}, GPS: set(), INTEROPERABILITY: set()}  # tag -> tags of directories inside it
Order = Literal["<", ">"]
ORDERS: dict[bytes, Order] = {b"II*\0": "<", b"MM\0*": ">"}  # first bytes of a file -> byte order
_MOST_PAGES = 1_000


class Entry(NamedTuple):
  """A value: its TIFF type, the number of values, and their bytes or the directory that it points to."""

  kind: int
  count: int
  value: "bytes | Directory"


@dataclass
class Directory:
  """The entries of one TIFF directory.

  Attributes:
    order: byte order, `<` or `>`.
    entries: tag -> entry.
    damaged: whether entries were left out because they point outside the file or have an unknown type.
    position: its position in the file that it was read from.
  """

  order: Order = "<"
  entries: dict[int, Entry] = field(default_factory=dict)
  damaged: bool = False
  position: int = 0

  def numbers(self, tag: int, default: tuple = ()) -> tuple:
    """The values of a tag; fractions as floats."""
    entry = self.entries.get(tag)
    if entry is None or isinstance(entry.value, Directory):
      return default
    each = _NUMBERS_EACH.get(entry.kind, 1)
    values = struct.unpack(f"{self.order}{entry.count * each}{_LETTERS[entry.kind]}", entry.value)
    if each == 2:
      values = tuple(top / bottom if bottom else 0.0 for top, bottom in zip(values[::2], values[1::2], strict=True))
    return values or default

  def number(self, tag: int, default: float) -> Any:
    """The first value of a tag."""
    return self.numbers(tag, (default,))[0]

  def content(self, tag: int) -> bytes:
    """The bytes of a tag; empty if it does not exist."""
    entry = self.entries.get(tag)
    return b"" if entry is None or isinstance(entry.value, Directory) else entry.value

  def put(self, tag: int, kind: int, *values: int) -> None:
    """Sets a tag to integers; a fraction is given as numerator and denominator."""
    packed = struct.pack(f"{self.order}{len(values)}{_LETTERS[kind]}", *values)
    self.entries[tag] = Entry(kind, len(values) // _NUMBERS_EACH.get(kind, 1), packed)

  def put_bytes(self, tag: int, kind: int, value: bytes) -> None:
    """Sets a tag to bytes."""
    self.entries[tag] = Entry(kind, len(value), value)

  def without(self, tags: set[int]) -> "Directory":
    """The same directory without these tags."""
    kept = {tag: entry for tag, entry in self.entries.items() if tag not in tags}
    return dataclasses.replace(self, entries=kept)

  def to_bytes(self, start: int) -> bytes:
    """The directory and everything it points to, for byte `start` of a file."""
    tags = sorted(self.entries)
    table = struct.pack(f"{self.order}H", len(tags))
    position, rest = start + 6 + 12 * len(tags), b""
    for tag in tags:
      kind, count, value = self.entries[tag]
      if isinstance(value, Directory):
        kind, count, content = LONG, 1, value.to_bytes(position)
      else:
        content = value
      if isinstance(value, Directory) or len(content) > 4:
        content += b"\0" * (len(content) % 2)
        slot, rest, position = struct.pack(f"{self.order}I", position), rest + content, position + len(content)
      else:
        slot = content.ljust(4, b"\0")
      table += struct.pack(f"{self.order}HHI", tag, kind, count) + slot
    return table + bytes(4) + rest

  def to_file(self) -> bytes:
    """A TIFF structure with only this directory, the form of EXIF in other formats."""
    return header(self.order, 8) + self.to_bytes(8)


def header(order: Order, position: int) -> bytes:
  """The first eight bytes of a TIFF file whose directory is at `position`."""
  return (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, position)


def read_pages(data: bytes) -> Iterator[Directory]:
  """The directories of a TIFF structure, one after the other.

  Raises:
    ValueError: the first bytes are not those of TIFF.
  """
  order = ORDERS.get(data[:4])
  if order is None or len(data) < 8:
    raise ValueError("not a TIFF structure")
  (position,) = struct.unpack_from(f"{order}I", data, 4)
  seen = set()
  while position and position not in seen and len(seen) < _MOST_PAGES:
    seen.add(position)
    directory, position = _read(data, position, order, {EXIF, GPS})
    yield directory


def with_tags_alone(data: bytes, directory: Directory, tags: set[int]) -> io.BytesIO:
  """A TIFF file that begins with this directory, reduced to these tags. The positions of all data stay the same."""
  order, start = directory.order, directory.position
  (count,) = struct.unpack_from(f"{order}H", data, start)
  table = [data[position : position + 12] for position in range(start + 2, start + 2 + 12 * count, 12)]
  kept = [entry for entry in table if struct.unpack_from(f"{order}H", entry)[0] in tags]
  patched = io.BytesIO(data)
  patched.write(header(order, start))
  patched.seek(start)
  patched.write(struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4))
  patched.seek(0)
  return patched


def read_first(data: bytes) -> Directory:
  """The first directory of a TIFF structure; an empty one marked as damaged if there is none."""
  try:
    return next(read_pages(data), Directory(damaged=True))
  except ValueError:
    return Directory(damaged=True)


def _read(data: bytes, start: int, order: Order, nested: set[int]) -> tuple[Directory, int]:
  """A directory, and the position of the next one."""
  directory, room = Directory(order, position=start), len(data)  # a limit: overlapping values could fill the memory
  try:
    (count,) = struct.unpack_from(f"{order}H", data, start)
    for position in range(start + 2, start + 2 + 12 * count, 12):
      tag, kind, length = struct.unpack_from(f"{order}HHI", data, position)
      if tag in nested:
        (inner,) = struct.unpack_from(f"{order}I", data, position + 8)
        value, _ = _read(data, inner, order, _NESTED[tag])
        directory.damaged |= value.damaged
        if value.entries:
          directory.entries[tag] = Entry(LONG, 1, value)
      elif kind in _LETTERS:
        size = length * _NUMBERS_EACH.get(kind, 1) * struct.calcsize(f"={_LETTERS[kind]}")
        begin = position + 8 if size <= 4 else struct.unpack_from(f"{order}I", data, position + 8)[0]
        room -= size
        if begin + size > len(data) or room < 0:
          directory.damaged = True
        else:
          directory.entries[tag] = Entry(kind, length, bytes(data[begin : begin + size]))
      elif kind != 13:  # type 13 is a link to more directories, which is ignored
        directory.damaged = True
    (following,) = struct.unpack_from(f"{order}I", data, start + 2 + 12 * count)
  except struct.error:
    directory.damaged, following = True, 0
  return directory, following
