"""The first fields of a JPEG XL codestream (ISO/IEC 18181-1), which the decoder tells only after it took memory."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}  # width : height


class Header(NamedTuple):
  """Size in pixels as stored, bits per sample, and whether samples are floats, animated, or compressed with loss (false
  where a file has extra channels that are not described here)."""

  width: int
  height: int
  bits: int = 8
  float: bool = False
  animated: bool = False
  lossy: bool = True


class _Bits:
  """Reads a codestream bit by bit, the lowest of each byte first."""

  def __init__(self, data: bytes):
    self.number, self.left = int.from_bytes(data, "little"), 8 * len(data)

  def take(self, count: int) -> int:
    if count > self.left:
      raise ValueError("the header of JPEG XL is incomplete")
    value = self.number & ((1 << count) - 1)
    self.number >>= count
    self.left -= count
    return value

  def choose(self, *choices: tuple[int, int]) -> int:
    """A number in one of four codes, each a start and a count of bits."""
    start, count = choices[self.take(2)]
    return start + self.take(count)


def read_header(data: bytes) -> Header:
  """The header of a file, with or without a container.

  Raises:
    ValueError: it is incomplete or not JPEG XL.
  """
  bits = _Bits(_codestream(data)[:64])
  if bits.take(16) != 0x0AFF:
    raise ValueError("not a JPEG XL codestream")
  width, height = _size(bits)
  if bits.take(1):  # everything has its usual value
    return Header(width, height)
  animated = False
  if bits.take(1):  # extra fields
    bits.take(3)  # orientation
    if bits.take(1):  # a size to show it in
      _size(bits)
    if bits.take(1):  # a preview
      return Header(width, height)
    animated = bool(bits.take(1))
    if animated:
      return Header(width, height, animated=True)
  depth, is_float = _depth(bits)
  bits.take(1)  # whether 16-bit buffers suffice
  extra = bits.choose((0, 0), (1, 0), (2, 4), (1, 12))
  lossy = False
  if extra == 0 or (extra == 1 and bits.take(1)):  # no extra channel, or a usual alpha
    lossy = bool(bits.take(1))  # colours are stored as XYB
  return Header(width, height, depth, is_float, animated, lossy)


def without_jpeg(data: bytes) -> bytes:
  """The file without what it needs to become the JPEG that it was made from, so that its pixels are decoded."""
  if not data.startswith(_CONTAINER):
    return data
  return b"".join(data[start:stop] for name, start, _, stop in _boxes(data) if name != b"jbrd")


def _codestream(data: bytes) -> bytes:
  """The beginning of the codestream."""
  if not data.startswith(_CONTAINER):
    return data
  for name, _, content, _ in _boxes(data):
    if name in (b"jxlc", b"jxlp"):
      return data[content + 4 * (name == b"jxlp") :]
  raise ValueError("its container holds no JPEG XL codestream")


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int, int]]:
  """Name, start, start of the content and end of each box of a container."""
  start = 0
  while start + 8 <= len(data):
    size, name = struct.unpack_from(">I4s", data, start)
    content = start + 8
    if size == 1:
      (size,) = struct.unpack_from(">Q", data, content)
      content += 8
    stop = start + size if size else len(data)
    if stop < content:
      return
    yield name, start, content, stop
    start = stop


def _size(bits: _Bits) -> tuple[int, int]:
  small = bits.take(1)
  side = lambda: 8 * (bits.take(5) + 1) if small else bits.choose((1, 9), (1, 13), (1, 18), (1, 30))
  height, ratio = side(), bits.take(3)
  if ratio:
    across, down = _RATIOS[ratio]
    return height * across // down, height
  return side(), height


def _depth(bits: _Bits) -> tuple[int, bool]:
  """Bits per sample, and whether they are floats."""
  if bits.take(1):
    depth = bits.choose((32, 0), (16, 0), (24, 0), (1, 6))
    bits.take(4)  # bits of the exponent
    return depth, True
  return bits.choose((8, 0), (10, 0), (12, 0), (1, 6)), False
