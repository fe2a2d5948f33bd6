"""Reads a photograph for enhancement: upright samples as they are stored, and everything else in its file.

Intended changes: palettes and single transparent colours become RGB(A), fewer than 8 bits become 8, CMYK and LAB become
RGB (CMYK by the embedded profile if there is one). The EXIF orientation is applied and reset. The EXIF thumbnail is
unlinked, because it shows the photograph before enhancement. The main picture of a multi-picture JPEG is kept. Refused:
several pages or frames, float and 32-bit samples, and files that the libraries read or write only partly (BMP with
alpha, BigTIFF). HEIC, AVIF, JPEG XL and camera raw files need packages of the extra `photos`.
"""

import io
import os
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ruas_jax.data.formats import PHOTO_FORMATS, RAW, RAW_FORMATS, VIDEO, format_of_content
from ruas_jax.errors import UserError
from ruas_jax.photos.avif_files import read_avif
from ruas_jax.photos.extras import missing
from ruas_jax.photos.heic_files import read_heic
from ruas_jax.photos.jxl_files import read_jxl
from ruas_jax.photos.photo import Photo, Refused
from ruas_jax.photos.pillow_files import read_by_pillow
from ruas_jax.photos.png_files import read_png
from ruas_jax.photos.raw_files import read_raw
from ruas_jax.photos.tiff_files import read_tiff

_NAMES = {
  "PNG": "PNG",
  "JPEG": "JPEG",
  "MPO": "JPEG",
  "WEBP": "WebP",
  "BMP": "BMP",
  "AVIF": "AVIF",
}  # Pillow's name -> our name


def read_photo(path: str | os.PathLike) -> Photo:
  """Reads a photograph with its full precision, upright.

  Args:
    path: a file of `PHOTO_FORMATS`, where the content counts and not the extension; or a camera raw file, which is
      known by its extension.

  Returns:
    The `Photo`, with a warning for each thing that is damaged or could not be kept.

  Raises:
    UserError: the file is missing, damaged, incomplete or of a kind that cannot be written back without loss.
  """
  path = Path(path)
  try:
    with warnings.catch_warnings():
      # The `Photo` reports damage, and photographs of 90 to 179 megapixels need no warning.
      warnings.filterwarnings("ignore", module=r"PIL\.")
      return _decode(path)
  except FileNotFoundError as error:
    raise UserError(f"{path}: no such file") from error
  except UnidentifiedImageError as error:
    kind = _format_of(path)
    if kind == VIDEO:
      raise UserError(f"{path}: it holds a video: give it the extension of one, such as .mp4") from error
    if kind and kind not in PHOTO_FORMATS.values():
      raise UserError(f"{path}: it holds {kind}, which is not supported") from error
    named = PHOTO_FORMATS.get(path.suffix.lower(), "JPEG")
    raise UserError(f"{path}: not a readable {named} image, nor one of another format that is supported") from error
  except Refused as error:
    raise UserError(f"{path}: {error}") from error
  except Image.DecompressionBombError as error:
    raise UserError(f"{path}: more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels are not supported") from error
  except OSError as error:
    raise UserError(f"{path}: cannot read the image, it may be incomplete: {error.strerror or error}") from error
  except MemoryError:
    raise
  except Exception as error:  # the decoders raise exceptions of many types for damaged files
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    raise UserError(f"{path}: cannot read the image, it may be damaged or incomplete ({cause})") from error


def _format_of(path: Path) -> str | None:
  with path.open("rb") as file:
    return format_of_content(file.read(32))


def _decode(path: Path) -> Photo:
  data, storage = path.read_bytes(), None
  if path.suffix.lower() in RAW_FORMATS:
    samples, metadata, found = read_raw(data)
    return Photo(samples, path, RAW, metadata, None, tuple(found))
  kind = format_of_content(data[:32]) or ""
  if kind in ("HEIC", "JPEG XL"):
    samples, storage, metadata, found = (read_heic if kind == "HEIC" else read_jxl)(data)
    return Photo(samples, path, kind, metadata, storage, tuple(found))
  if kind == "AVIF" and (lacking := missing(kind)):
    raise Refused(lacking)
  if data[:4] in (b"II*\0", b"MM\0*"):
    samples, storage, metadata, found = read_tiff(data)
    return Photo(samples, path, "TIFF", metadata, storage, tuple(found))
  if data[:4] in (b"II+\0", b"MM\0+"):
    raise Refused("BigTIFF files are not supported")
  with Image.open(io.BytesIO(data), formats=[name for name in _NAMES if name != "MPO"]) as image:
    frames = getattr(image, "n_frames", 1)
    if image.format != "MPO" and frames > 1:
      raise Refused(f"it holds {frames} frames, but only single pictures can be enhanced")
    if image.format == "PNG":
      samples, metadata, found = read_png(image, data)
    else:
      read = read_avif if image.format == "AVIF" else read_by_pillow
      samples, storage, metadata, found = read(image, data)
    return Photo(samples, path, _NAMES[str(image.format)], metadata, storage, tuple(found))
