"""EXIF and XMP of a picture that has been rotated upright."""

import re
import struct

from ruas_jax.photos.tiff_directory import EXIF, ORDERS, ORIENTATION, Directory, read_first

_WIDTH, _HEIGHT = 40962, 40963  # EXIF tags of the picture's size
_SIDEWAYS = (5, 6, 7, 8)
_JPEG_PREFIX = b"Exif\0\0"
DAMAGED_EXIF = "its EXIF data are partly damaged and are kept unchanged"


def plain_exif(exif: bytes) -> bytes:
  """EXIF without the prefix that JPEG files have."""
  return exif.removeprefix(_JPEG_PREFIX)


def jpeg_exif(exif: bytes) -> bytes:
  """EXIF with the prefix that JPEG files have; empty stays empty."""
  return exif and _JPEG_PREFIX + exif


def orientation_of(directory: Directory, xmp: bytes) -> int:
  """The orientation, 1 to 8, from EXIF, else from XMP, else upright."""
  orientation = directory.number(ORIENTATION, 0)
  if not orientation:
    noted = re.search(rb'tiff:Orientation(?:="|>)([1-8])', xmp)
    orientation = int(noted[1]) if noted else 1
  return orientation if 1 <= orientation <= 8 else 1


def read_exif(exif: bytes, xmp: bytes) -> tuple[int, bytes, list[str]]:
  """The orientation, the EXIF of the upright picture, and warnings."""
  directory = read_first(exif) if exif else Directory()
  return orientation_of(directory, xmp), upright_exif(exif), [DAMAGED_EXIF] * directory.damaged


def upright_xmp(xmp: bytes) -> bytes:
  """XMP with the orientation reset."""
  return re.sub(rb'(tiff:Orientation(?:="|>))[2-8]', rb"\g<1>1", xmp)


def upright_directory(directory: Directory, orientation: int) -> Directory:
  """The directory without the orientation, and with the recorded size rotated."""
  directory = directory.without({ORIENTATION})
  details = directory.entries.get(EXIF)
  if orientation in _SIDEWAYS and details and isinstance(details.value, Directory):
    inner = details.value.entries
    if _WIDTH in inner and _HEIGHT in inner:
      inner[_WIDTH], inner[_HEIGHT] = inner[_HEIGHT], inner[_WIDTH]
  return directory


def upright_exif(exif: bytes) -> bytes:
  """EXIF with the orientation reset, the recorded size rotated, and the thumbnail unlinked, because it shows the
  photograph before enhancement. It is changed in place, because maker notes depend on positions. Damaged EXIF is
  changed as far as it can be read."""
  order = ORDERS.get(exif[:4])
  if order is None:
    return exif
  block = bytearray(exif)

  def number(kind: str, position: int) -> int:
    return struct.unpack_from(order + kind, block, position)[0]

  def entries(link: int) -> dict[int, int]:
    """Position of each complete entry of the directory to which `link` points; key -1 is the end of the entries."""
    if link + 4 > len(block) or number("I", link) + 2 > len(block):
      return {}
    first = number("I", link) + 2
    end = first + 12 * number("H", first - 2)
    return {number("H", position): position for position in range(first, min(end, len(block) - 11), 12)} | {-1: end}

  tags = entries(4)
  if tags.get(-1, len(block)) + 4 <= len(block):
    struct.pack_into(f"{order}I", block, tags[-1], 0)  # link to the directory of the thumbnail
  if ORIENTATION in tags:
    sideways = number("H", tags[ORIENTATION] + 8) in _SIDEWAYS
    struct.pack_into(f"{order}H", block, tags[ORIENTATION] + 8, 1)
    details = entries(tags[EXIF] + 8) if EXIF in tags else {}
    if sideways and _WIDTH in details and _HEIGHT in details:
      width, height = (slice(details[tag] + 2, details[tag] + 12) for tag in (_WIDTH, _HEIGHT))
      block[width], block[height] = block[height], block[width]
  return bytes(block)
