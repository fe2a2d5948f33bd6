"""The samples of a TIFF file in its strips or tiles, compressed as in the source.

Pillow reduces 16-bit colour to 8 bits. But it includes libtiff, whose LZW and PackBits work on any bytes: a block of
samples is passed to it as a small 8-bit picture. Byte order, predictor and layout are handled in this file.
"""

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, TiffImagePlugin

from ruas_jax.photos.tiff_directory import LONG, SHORT, Directory, Order, header

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
OFFSETS, CHANNELS, ROWS, COUNTS, PLANAR, PREDICTOR = 273, 277, 278, 279, 284, 317
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS, EXTRA_SAMPLES = 322, 323, 324, 325, 338
NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
_DEFLATES = (DEFLATE, 32946)
LOSSLESS = (NONE, LZW, PACKBITS, *_DEFLATES)
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_LEVEL = 4  # of deflate: on noisy 16-bit differences the size is that of the default 6, and it is 2 to 8 times as fast
_IN_PILLOW = {LZW: "tiff_lzw", PACKBITS: "packbits"}
_PHOTOMETRICS = {4: 5, 2: 1}  # bytes of one pixel in Pillow -> photometric: CMYK, or grey and alpha


@dataclass(frozen=True)
class Layout:
  """How a TIFF file stores its samples.

  Attributes:
    order: byte order, `<` or `>`.
    compression: one of `LOSSLESS`.
    differences: whether each sample is stored as the difference from its left neighbour.
    rows: rows of a strip.
    tile: height and width of a tile in pixels; None for strips.
  """

  order: Order = "<"
  compression: int = DEFLATE
  differences: bool = True
  rows: int = 64
  tile: tuple[int, int] | None = None

  @classmethod
  def of(cls, directory: Directory, sideways: bool) -> "Layout":
    """The layout in a directory, for a picture that is rotated by 90 degrees or not. A compression that cannot be
    written is replaced by deflate.

    Raises:
      ValueError: the tiles have an impossible size.
    """
    compression = directory.number(COMPRESSION, NONE)
    compression = compression if compression in LOSSLESS else DEFLATE
    differences = directory.number(PREDICTOR, 1) == 2 and compression not in (NONE, PACKBITS)
    tile = None
    if TILE_WIDTH in directory.entries:
      tile = (directory.number(TILE_LENGTH, 0), directory.number(TILE_WIDTH, 0))
      if not 0 < tile[0] * tile[1] <= max(2**20, 4 * directory.number(LENGTH, 0) * directory.number(WIDTH, 0)):
        raise ValueError(f"tiles of {tile[1]}x{tile[0]} pixels")
      tile = tile[::-1] if sideways else tile
    return cls(directory.order, compression, differences, max(1, directory.number(ROWS, 2**32 - 1)), tile)

  def blocks(self, height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    """First row, first column, rows and columns of each stored block. Tiles are complete; the last strip may be
    shorter."""
    if self.tile:
      tall, wide = self.tile
      yield from ((row, column, tall, wide) for row in range(0, height, tall) for column in range(0, width, wide))
    else:
      rows = min(self.rows, height)
      yield from ((row, 0, min(rows, height - row), width) for row in range(0, height, rows))


def read_deep(data: bytes, directory: Directory) -> np.ndarray:
  """16-bit samples [H, W, C] of a file whose compression is one of `LOSSLESS`.

  Raises:
    ValueError: blocks are missing, damaged or of an impossible size.
  """
  height, width = directory.number(LENGTH, 0), directory.number(WIDTH, 0)
  channels, layout = directory.number(CHANNELS, 1), Layout.of(directory, sideways=False)
  planes = channels if directory.number(PLANAR, 1) == 2 else 1
  offsets, counts = (
    directory.numbers(tag) for tag in ((TILE_OFFSETS, TILE_COUNTS) if layout.tile else (OFFSETS, COUNTS))
  )
  samples = np.empty((height, width, channels), np.uint16)
  stored = zip(offsets, counts, strict=True)
  for plane in range(planes):
    part = samples[:, :, plane : plane + 1] if planes > 1 else samples
    for row, column, rows, columns in layout.blocks(height, width):
      offset, count = next(stored, (0, 0))
      shape = (rows, columns, part.shape[-1])
      content = _unpack(data[offset : offset + count], 2 * shape[0] * shape[1] * shape[2], directory)
      block = np.frombuffer(content, f"{layout.order}u2").reshape(shape)
      block = np.cumsum(block, axis=1, dtype=np.uint16) if layout.differences else block
      window = part[row : row + rows, column : column + columns]
      window[:] = block[: window.shape[0], : window.shape[1]]
  return samples


def pack(samples: np.ndarray, layout: Layout) -> list[bytes]:
  """The blocks of samples [H, W, C], each compressed."""
  packed = []
  for row, column, rows, columns in layout.blocks(*samples.shape[:2]):
    block = samples[row : row + rows, column : column + columns]
    missing = (rows - block.shape[0], columns - block.shape[1])
    if any(missing):
      block = np.pad(block, ((0, missing[0]), (0, missing[1]), (0, 0)))
    if layout.differences:
      block = np.concatenate([block[:, :1], np.diff(block, axis=1)], axis=1)
    stored = np.ascontiguousarray(block, samples.dtype.newbyteorder(layout.order))
    packed.append(_pack(stored.view(np.uint8).reshape(rows, -1), layout.compression))
  return packed


def describe(directory: Directory, samples: np.ndarray, layout: Layout, counts: list[int]) -> None:
  """Sets the tags of a directory that give the positions of blocks with these sizes and how they are stored. The
  positions are relative to the first block."""
  directory.put(COMPRESSION, SHORT, layout.compression)
  directory.put(PLANAR, SHORT, 1)
  if layout.differences:
    directory.put(PREDICTOR, SHORT, 2)
  if layout.tile:
    directory.put(TILE_LENGTH, LONG, layout.tile[0])
    directory.put(TILE_WIDTH, LONG, layout.tile[1])
  else:
    directory.put(ROWS, LONG, min(layout.rows, len(samples)))
  directory.put(TILE_COUNTS if layout.tile else COUNTS, LONG, *counts)
  move(directory, layout, counts, 0)


def move(directory: Directory, layout: Layout, counts: list[int], start: int) -> None:
  """Sets the positions of the blocks, one after the other from byte `start` of the file."""
  offsets = start + np.cumsum([0, *counts[:-1]])
  directory.put(TILE_OFFSETS if layout.tile else OFFSETS, LONG, *offsets.tolist())


def _pack(block: np.ndarray, compression: int) -> bytes:
  """Compresses bytes [rows, row bytes]."""
  if compression == NONE:
    return block.tobytes()
  if compression in _DEFLATES:
    return zlib.compress(block.data, _LEVEL)
  buffer = io.BytesIO()
  one_strip = TiffImagePlugin.ImageFileDirectory_v2()
  one_strip[ROWS] = len(block)
  Image.fromarray(block).save(buffer, "TIFF", compression=_IN_PILLOW[compression], tiffinfo=one_strip)
  written = buffer.getvalue()
  with TiffImagePlugin.TiffImageFile(io.BytesIO(written)) as file:
    blocks = zip(file.tag_v2[OFFSETS], file.tag_v2[COUNTS], strict=True)
    return b"".join(written[offset : offset + count] for offset, count in blocks)


def _unpack(content: bytes, size: int, directory: Directory) -> bytes:
  """Decompresses the `size` bytes of a block."""
  compression = directory.number(COMPRESSION, NONE)
  if directory.number(FILL_ORDER, 1) == 2:
    content = content.translate(_REVERSED_BITS)
  if compression in _DEFLATES:
    unpacked = zlib.decompressobj().decompress(content, size)
  elif compression == NONE:
    unpacked = content[:size]
  else:
    unpacked = _unpack_by_pillow(content, size, compression)
  if len(unpacked) < size:
    raise ValueError("strips or tiles are incomplete")
  return unpacked


def _unpack_by_pillow(content: bytes, size: int, compression: int) -> bytes:
  group = 4 if size % 4 == 0 else 2  # larger pixels are fewer, and Pillow limits their number
  picture = Directory()
  for tag, value in (
    (WIDTH, size // group),
    (LENGTH, 1),
    (COMPRESSION, compression),
    (PHOTOMETRIC, _PHOTOMETRICS[group]),
    (CHANNELS, group),
    (ROWS, 1),
    (COUNTS, len(content)),
    (OFFSETS, 0),
  ):
    picture.put(tag, LONG, value)
  picture.put(BITS, SHORT, *(8,) * group)
  if group == 2:
    picture.put(EXTRA_SAMPLES, SHORT, 2)
  picture.put(OFFSETS, LONG, 8 + len(picture.to_bytes(8)))
  file = header("<", 8) + picture.to_bytes(8) + content
  with TiffImagePlugin.TiffImageFile(io.BytesIO(file)) as image:
    return image.tobytes()
