"""Writes the result in the photograph's form: format, grey or colour, bit depth, alpha channel, ICC profile, metadata
and quality. PNG, TIFF, BMP, lossless WebP and lossless JPEG XL are read and written without loss.

JPEG keeps the quantisation tables, the progressive flag and the subsampling of colour (none, if Pillow cannot write
it). TIFF keeps its compression, predictor, strips or tiles and byte order. WebP and JPEG XL are lossless if the source
was; else they have quality 95, as HEIC and AVIF always have.
"""

import os
import struct
from pathlib import Path

import numpy as np

from ruas_jax.data.formats import PHOTO_FORMATS, RAW
from ruas_jax.errors import UserError
from ruas_jax.files import write_atomically
from ruas_jax.photos.avif_files import encode_avif
from ruas_jax.photos.conversion import convert
from ruas_jax.photos.heic_files import encode_heic
from ruas_jax.photos.jxl_files import encode_jxl
from ruas_jax.photos.photo import Photo, Refused
from ruas_jax.photos.pillow_files import encode_bmp, encode_jpeg, encode_webp
from ruas_jax.photos.png_files import encode_png
from ruas_jax.photos.tiff_files import encode_tiff


def check_quality(quality: int | None) -> None:
  """Raises UserError for a quality outside 1 to 100."""
  if quality is not None and not 1 <= quality <= 100:
    raise UserError(f"`quality` must be between 1 and 100, not {quality}")


def write_photo(
  path: str | os.PathLike,
  samples: np.ndarray,
  photo: Photo,
  *,
  format: str | None = None,
  quality: int | None = None,
  overwrite: bool = False,
) -> list[str]:
  """Writes enhanced samples in the form of their photograph, completely or not at all.

  Args:
    path: the file to write; its folders are made.
    samples: samples with the shape and type of `photo.samples`, alpha included.
    photo: result of `read_photo`.
    format: a value of `PHOTO_FORMATS`; the extension of `path` must fit. None: the photograph's format, and the
      extension of `path` must be the photograph's; or TIFF for a camera raw file.
    quality: 1 to 100, for JPEG, HEIC, AVIF, and for WebP and JPEG XL that are not lossless; None: that of the
      photograph.
    overwrite: replace an existing output. The photograph itself is never replaced.

  Returns:
    Warnings: one line with everything that the format could not hold, or no line.

  Raises:
    UserError: the output exists, the path cannot be written, or the quality is out of range.
  """
  path = Path(path)
  check_quality(quality)
  if (samples.shape, samples.dtype) != (photo.samples.shape, photo.samples.dtype):
    raise ValueError(
      f"{samples.dtype} {samples.shape} cannot be written as {photo.samples.dtype} {photo.samples.shape}"
    )
  if photo.format == RAW:
    format = format or "TIFF"
  _check_suffix(path, photo, format)
  check_target(path, photo.path, overwrite)
  format = format or photo.format
  samples, converted, lost = convert(samples, photo, format)
  lost += write_samples(path, samples, converted, format, quality)
  return [f"as {format} it loses {', '.join(lost)}"] if lost else []


def check_target(path: Path, source: Path, overwrite: bool) -> None:
  """Raises UserError if the output is the photograph itself, or exists and `overwrite` is false."""
  if path.exists():
    if source.exists() and path.samefile(source):
      raise UserError(f"{path}: the output would replace the input; choose another `out`")
    if not overwrite:
      raise UserError(f"{path} exists already; choose another `out`, or set `overwrite` to replace it")


def write_samples(path: Path, samples: np.ndarray, photo: Photo, format: str, quality: int | None) -> list[str]:
  """Writes samples that the format can store, completely or not at all. Gives a list of metadata that are lost.

  Raises:
    UserError: the metadata or the size cannot be stored, or the path cannot be written.
  """
  try:
    data, lost = _encode(samples, photo, format, quality)
  except (OSError, TypeError, ValueError, OverflowError, struct.error, RuntimeError, Refused) as error:
    raise UserError(f"{path}: cannot be written ({error})") from error
  write_atomically(path, data)
  return lost


def _encode(samples: np.ndarray, photo: Photo, format: str, quality: int | None) -> tuple[bytes, list[str]]:
  """The bytes of a file, and a list of metadata that it cannot hold."""
  if format in ("JPEG", "JPEG XL"):
    return (encode_jpeg if format == "JPEG" else encode_jxl)(samples, photo, quality)
  lossy = {"WebP": encode_webp, "HEIC": encode_heic, "AVIF": encode_avif}
  if format in lossy:
    return lossy[format](samples, photo, quality), []
  return {"PNG": encode_png, "TIFF": encode_tiff, "BMP": encode_bmp}[format](samples, photo), []


def _check_suffix(path: Path, photo: Photo, format: str | None) -> None:
  suffix = path.suffix.lower()
  if format is None and suffix != photo.path.suffix.lower():
    raise UserError(f"{path}: the output keeps the format of the input, so its name must end in {photo.path.suffix}")
  if format is not None and PHOTO_FORMATS.get(suffix) != format:
    raise UserError(f"{path}: the extension does not belong to a {format} file")
