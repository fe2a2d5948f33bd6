"""Camera raw files, by rawpy (LibRaw): developed with the camera's white balance to 16-bit sRGB.

The development is linear: no automatic brightness, no tone curve. The curve of sRGB is applied after it, because the
network is trained on photographs that have it.
"""

import contextlib
import functools
import io

import numpy as np
from PIL import Image, ImageCms

from ruas_jax.data.formats import RAW
from ruas_jax.photos.extras import package
from ruas_jax.photos.metadata import orientation_of, plain_exif, read_exif, upright_directory, upright_xmp
from ruas_jax.photos.photo import Metadata, Refused
from ruas_jax.photos.samples import check_size
from ruas_jax.photos.tiff_directory import EXIF, GPS, IPTC, XMP, Directory, read_first
from ruas_jax.srgb import from_light

# Description, maker, model, software, time, artist, copyright, EXIF, GPS: what a developed picture has too.
_KEPT = {270, 271, 272, 305, 306, 315, 33432, EXIF, GPS}
_MAKER_NOTE = 37500  # it holds previews, and points into the raw file
_DATE_IN_PROFILE = slice(24, 36)


def read_raw(data: bytes) -> tuple[np.ndarray, Metadata, list[str]]:
  """uint16 samples [H, W, 3], upright, in sRGB; metadata; and warnings."""
  rawpy = package(RAW)
  warnings = []
  try:
    with rawpy.imread(io.BytesIO(data)) as raw:
      check_size(raw.sizes.raw_width, raw.sizes.raw_height)
      balanced = min(raw.camera_whitebalance[:3]) > 0  # LibRaw would estimate one from the picture
      if not balanced:
        warnings.append("it has no white balance of the camera: it is developed for daylight")
      linear = raw.postprocess(use_camera_wb=balanced, output_bps=16, no_auto_bright=True, gamma=(1, 1))
      preview = _preview(raw)
  except rawpy.LibRawFileUnsupportedError:
    version = ".".join(str(number) for number in rawpy.libraw_version)
    raise Refused(f"not a raw file of a camera that LibRaw {version} knows") from None
  except rawpy.LibRawError as error:
    raise OSError(f"LibRaw: {_text(error)}") from None
  metadata, faults = _metadata(data, preview)
  return srgb_curve()[linear], metadata, warnings + faults


@functools.cache
def srgb_curve() -> np.ndarray:
  """uint16 [65536]: the level in sRGB of each level of linear light."""
  return np.rint(65535 * from_light(np.arange(2**16) / 65535)).astype(np.uint16)


@functools.cache
def srgb_profile() -> bytes:
  """An ICC profile of sRGB, the same at every time."""
  profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
  profile[_DATE_IN_PROFILE] = bytes(12)
  return bytes(profile)


def _preview(raw) -> bytes:
  """The JPEG in a raw file; empty if there is none."""
  rawpy = package(RAW)
  try:
    thumbnail = raw.extract_thumb()
  except rawpy.LibRawError:
    return b""
  return thumbnail.data if thumbnail.format == rawpy.ThumbFormat.JPEG else b""


def _metadata(data: bytes, preview: bytes) -> tuple[Metadata, list[str]]:
  """From the directory of the raw file, which most kinds have; else from the JPEG in it."""
  if data[:2] in (b"II", b"MM"):  # some makers have another number after it than TIFF's
    directory = read_first((b"II*\0" if data[:2] == b"II" else b"MM\0*") + data[4:])
    xmp = directory.content(XMP)
    kept = upright_directory(directory.without(directory.entries.keys() - _KEPT), orientation_of(directory, xmp))
    details = kept.entries.get(EXIF)
    if details and isinstance(details.value, Directory):
      details.value.entries.pop(_MAKER_NOTE, None)
    if kept.entries:
      exif = kept.to_file()
      return Metadata(exif=exif, xmp=upright_xmp(xmp), profile=srgb_profile(), iptc=directory.content(IPTC)), []
  exif = b""
  # Without a preview, or with a damaged one, there is none.
  with contextlib.suppress(OSError), Image.open(io.BytesIO(preview), formats=("JPEG",)) as image:
    _, exif, _ = read_exif(plain_exif(image.info.get("exif", b"")), b"")
  return Metadata(exif=exif, profile=srgb_profile()), [] if exif else ["its EXIF data cannot be read and are left out"]


def _text(error: Exception) -> str:
  cause = error.args[0] if error.args else error
  return cause.decode(errors="replace") if isinstance(cause, bytes) else str(cause)
