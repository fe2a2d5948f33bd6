"""Writes the result in the photograph's form: format, grey or colour, bit depth, alpha plane, ICC profile, metadata and
quality. PNG, TIFF, BMP and lossless WebP are lossless both ways.

JPEG keeps the quantisation tables, the subsampling of colour (where Pillow can write it, else none) and the progressive
flag; TIFF its compression, predictor, strips or tiles and byte order; WebP is lossless where the source was, else of
quality 95.
"""

import os
import struct
from pathlib import Path

import numpy as np

from ruas_jax.data.formats import FORMATS
from ruas_jax.errors import UserError
from ruas_jax.files import write_atomically
from ruas_jax.photos.conversion import convert
from ruas_jax.photos.photo import Photo
from ruas_jax.photos.pillow_files import encode_bmp, encode_jpeg, encode_webp
from ruas_jax.photos.png_files import encode_png
from ruas_jax.photos.tiff_files import encode_tiff


def check_quality(quality: int | None) -> None:
  """Raises a UserError for a quality outside 1 to 100."""
  if quality is not None and not 1 <= quality <= 100:
    raise UserError(f"--quality must lie between 1 and 100, not {quality}")


def write_photo(
  path: str | os.PathLike,
  samples: np.ndarray,
  photo: Photo,
  *,
  format: str | None = None,
  quality: int | None = None,
  overwrite: bool = False,
) -> list[str]:
  """Writes enhanced samples in the form of the photograph they were made from, whole or not at all.

  Args:
    path: the file to write; folders on the way are made.
    samples: of the shape and type of `photo.samples`, alpha included.
    photo: what `read_photo` returned.
    format: a value of `FORMATS`, which `path` must end like; None for that of the photograph, whose extension `path`
      must have then.
    quality: 1 to 100, of JPEG and of WebP that is not lossless; None for that of the photograph.
    overwrite: replace an existing output. The photograph itself is never replaced.

  Returns:
    Warnings: one line that says what the format could not hold, or none.

  Raises:
    UserError: an existing output, a path that cannot be written or a quality out of range.
  """
  path = Path(path)
  check_quality(quality)
  if (samples.shape, samples.dtype) != (photo.samples.shape, photo.samples.dtype):
    raise ValueError(
      f"{samples.dtype} {samples.shape} cannot be written as {photo.samples.dtype} {photo.samples.shape}"
    )
  _check_suffix(path, photo, format)
  check_target(path, photo.path, overwrite)
  format = format or photo.format
  samples, converted, lost = convert(samples, photo, format)
  try:
    data, too_long = encode(samples, converted, format, quality)
  except (
    OSError,
    TypeError,
    ValueError,
    OverflowError,
    struct.error,
  ) as error:  # metadata or sizes that cannot be stored
    raise UserError(f"{path}: cannot be written ({error})") from error
  write_atomically(path, data)
  lost += too_long
  return [f"as {format} it loses {', '.join(lost)}"] if lost else []


def check_target(path: Path, source: Path, overwrite: bool) -> None:
  """Raises a UserError for an output that is the photograph itself, or that exists and is not to be replaced."""
  if path.exists():
    if source.exists() and path.samefile(source):
      raise UserError(f"{path}: the output would replace the input; choose another --out")
    if not overwrite:
      raise UserError(f"{path} exists already; --overwrite replaces it")


def encode(samples: np.ndarray, photo: Photo, format: str, quality: int | None) -> tuple[bytes, list[str]]:
  """The bytes of a file, and what metadata it could not hold."""
  if format == "JPEG":
    return encode_jpeg(samples, photo, quality)
  if format == "WebP":
    return encode_webp(samples, photo, quality), []
  return {"PNG": encode_png, "TIFF": encode_tiff, "BMP": encode_bmp}[format](samples, photo), []


def _check_suffix(path: Path, photo: Photo, format: str | None) -> None:
  suffix = path.suffix.lower()
  if format is None and suffix != photo.path.suffix.lower():
    raise UserError(f"{path}: the output keeps the format of the input, so its name must end in {photo.path.suffix}")
  if format is not None and FORMATS.get(suffix) != format:
    raise UserError(f"{path}: the name of a {format} file ends otherwise")
