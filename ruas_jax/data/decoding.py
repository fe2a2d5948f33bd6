"""Decoding of image files: the whole picture, upright, uint8 RGB."""

import struct
from typing import BinaryIO

import numpy as np
from etils import epath
from PIL import ExifTags, Image

from ruas_jax.data.formats import FORMATS
from ruas_jax.errors import UserError

_FORMATS = sorted(name.upper() for name in set(FORMATS.values()))  # Pillow's names
_TURNS = {  # EXIF orientation -> transform that makes the picture upright
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
# Exceptions that Pillow raises for a damaged file; they depend on the format and the position of the damage.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, struct.error)


def read_image(path: epath.PathLike) -> np.ndarray:
  """One image file as RGB uint8 [H, W, 3]: upright, grey repeated, alpha dropped, 16 bits scaled to 8.

  Raises:
    UserError: the file is missing, damaged, incomplete, or of an unsupported format.
  """
  return _with_image(path, _upright_rgb)


def image_size(path: epath.PathLike) -> tuple[int, int]:
  """(height, width) of the result of `read_image`, from the header only."""
  return _with_image(path, _upright_size)


def decode_image(file: BinaryIO, *, name: str) -> np.ndarray:
  """`read_image` for an open binary file; `name` is its name in errors."""
  return _guarded(file, _upright_rgb, name=name)


def decode_size(file: BinaryIO, *, name: str) -> tuple[int, int]:
  """(height, width) of the result of `decode_image`, from the header only."""
  return _guarded(file, _upright_size, name=name)


def _with_image(path, function):
  path = epath.Path(path)
  try:
    file = path.open("rb")
  except OSError as error:
    raise UserError(f"cannot read image {path}: {error.strerror or error}") from error
  with file:
    return _guarded(file, function, name=str(path))


def _guarded(file, function, *, name):
  try:
    with Image.open(file, formats=_FORMATS) as image:
      return function(image)
  except (Image.DecompressionBombError, NotImplementedError) as error:
    raise UserError(f"cannot read image {name}: {error}") from error
  except _DECODING_ERRORS as error:
    raise UserError(f"cannot read image {name}: damaged, truncated or not an image") from error


def _orientation(image):
  """The orientation in the header. It is 1 for a TIFF, because Pillow rotates it, and if EXIF is damaged, as in
  viewers."""
  if image.format == "TIFF":
    return 1
  try:
    # The `getexif` of a PNG would decode all pixels to read what follows them.
    return Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
  except Exception:  # of many types
    return 1


def _upright_size(image):
  width, height = image.size
  return (width, height) if _orientation(image) in (5, 6, 7, 8) else (height, width)


def _upright_rgb(image):
  turn = _TURNS.get(_orientation(image))
  image = image if turn is None else image.transpose(turn)
  if image.mode in ("I", "F"):
    raise NotImplementedError("samples of 32 bits have no defined range; save the image with 8 or 16 bits")
  if image.mode.startswith("I;16"):  # Pillow's conversion would clip at 255
    grey = np.round(np.asarray(image) / 257).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
  if image.mode in ("P", "PA"):
    image = image.convert("RGBA")  # otherwise Pillow warns about palettes with transparency
  return np.asarray(image.convert("RGB"))
