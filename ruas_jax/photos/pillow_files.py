"""JPEG, WebP and BMP files, which Pillow can read and write completely, with their quantisation kept."""

import io
import struct
from typing import Any

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from ruas_jax.photos.metadata import jpeg_exif, plain_exif, read_exif, upright_xmp
from ruas_jax.photos.photo import Metadata, Photo, Refused
from ruas_jax.photos.samples import from_pillow, to_pillow, upright

QUALITY = 95  # if the source has no quality
LOSSY = ("JPEG", "HEIC", "AVIF")  # formats of sources for which a lossless result would be large for nothing
_LONGEST_SEGMENT = 65_000  # bytes of metadata in one segment of a JPEG file
_IPTC_RESOURCE = 0x0404
_MORE_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_RGB_COMPONENTS = tuple(b"RGB")
# Horizontal and vertical sampling of luma divided by that of chroma -> Pillow's number.
_SUBSAMPLINGS: dict[tuple[float, float], int] = {(1, 1): 0, (2, 1): 1, (2, 2): 2}


def read_by_pillow(image: Image.Image, data: bytes) -> tuple[np.ndarray, dict[str, Any], Metadata, list[str]]:
  """Samples [H, W, C], upright; Pillow options to store others in the same way; metadata; and warnings."""
  info, profile = image.info, image.info.get("icc_profile")
  xmp, warnings, storage = info.get("xmp", b""), [], {}
  orientation, exif, faults = read_exif(plain_exif(info.get("exif", b"")), xmp)
  if image.format == "WEBP":
    storage = {"lossless": _is_lossless_webp(data)}
  elif isinstance(image, JpegImageFile):
    storage = _jpeg_storage(image, sideways=orientation >= 5)
    if "icc_profile" in info and not profile:
      warnings.append("its ICC profile is damaged and is left out")
    if any(content.startswith(_MORE_XMP) for _, content in image.applist):
      warnings.append("only the main part of its XMP is kept, not the extension")
    if getattr(image, "n_frames", 1) > 1:
      warnings.append("only the main picture of the file is kept, not its previews or gain map")
  samples, profile, others = from_pillow(image, profile or b"")
  if image.format == "BMP" and samples.shape[-1] == 4:
    raise Refused("BMP files with alpha are not supported")
  metadata = Metadata(
    exif=exif,
    xmp=upright_xmp(xmp),
    profile=profile,
    iptc=info.get("photoshop", {}).get(_IPTC_RESOURCE, b""),
    dpi=info.get("dpi"),
    comment=info.get("comment", b""),
  )
  return upright(samples, orientation), storage, metadata, warnings + faults + others


def encode_jpeg(samples: np.ndarray, photo: Photo, quality: int | None) -> tuple[bytes, list[str]]:
  """A JPEG file with the tables and subsampling of the photograph, and a list of metadata that is too long for JPEG."""
  fields, lost = {}, []
  for name in ("exif", "xmp", "iptc", "comment"):
    fields[name] = getattr(photo.metadata, name)
    if len(fields[name]) > _LONGEST_SEGMENT:
      lost.append(f"{name.upper()} (too long for JPEG)")
      fields[name] = b""
  options = {"quality": QUALITY, "subsampling": 0} | (photo.storage if photo.format == "JPEG" else {})
  if "qtables" in options:
    del options["quality"]
  if quality is not None:
    options.pop("qtables", None)
    options["quality"] = quality
  options |= {
    "exif": jpeg_exif(fields["exif"]),
    "xmp": fields["xmp"],
    "comment": fields["comment"],
    "extra": _iptc_segment(fields["iptc"]),
  }
  return save(samples, "JPEG", icc_profile=photo.metadata.profile, dpi=photo.metadata.dpi, **options), lost


def encode_webp(samples: np.ndarray, photo: Photo, quality: int | None) -> bytes:
  """A WebP file. It is lossless if the photograph was lossless, unless a quality is given for another source format."""
  metadata = photo.metadata
  lossless = photo.storage["lossless"] if photo.format == "WebP" else photo.format not in LOSSY and quality is None
  return save(
    samples,
    "WEBP",
    lossless=lossless,
    quality=QUALITY if lossless or quality is None else quality,
    exact=True,
    icc_profile=metadata.profile,
    exif=jpeg_exif(metadata.exif),
    xmp=metadata.xmp,
  )


def encode_bmp(samples: np.ndarray, photo: Photo) -> bytes:
  """A BMP file."""
  return save(samples, "BMP", dpi=photo.metadata.dpi)


def save(samples: np.ndarray, format: str, **options) -> bytes:
  """The bytes of a file that Pillow writes; empty options are left out."""
  buffer = io.BytesIO()
  given = {name: value for name, value in options.items() if value not in (None, b"")}
  to_pillow(samples).save(buffer, format, **given)
  return buffer.getvalue()


def _jpeg_storage(image: JpegImageFile, sideways: bool) -> dict[str, Any]:
  """Options that quantise and subsample as the file does, or more finely. If the picture is rotated by 90 degrees, the
  horizontal frequencies become the vertical ones."""
  tables = {number: np.asarray(table).reshape(8, 8) for number, table in image.quantization.items()}
  if sideways:
    tables = {number: table.T for number, table in tables.items()}
  layers = image.layer
  used = [tables[layer[3]] for layer in layers]
  is_rgb = _is_rgb_jpeg(image)
  if len(used) == 3 and not is_rgb:
    luma, chroma = used[0], np.minimum(used[1], used[2])
  else:  # all channels have the same sampling, or the channels change
    luma = chroma = np.minimum.reduce(used)
  subsampling = 0
  if len(used) == 3:
    (_, width, height, _), *others = layers
    ratios = {(width / layer[1], height / layer[2]) for layer in others}
    across, down = ratios.pop() if len(ratios) == 1 else (1, 1)
    subsampling = _SUBSAMPLINGS.get((down, across) if sideways else (across, down), 0)
  storage = {"qtables": [luma.ravel().tolist(), chroma.ravel().tolist()], "subsampling": subsampling}
  if image.info.get("progressive"):
    storage["progressive"] = True
  if is_rgb:
    storage |= {"keep_rgb": True, "subsampling": 0}
  return storage


def _is_rgb_jpeg(image: JpegImageFile) -> bool:
  """Whether red, green and blue are compressed directly, by the rules of libjpeg."""
  if len(image.layer) != 3 or "jfif" in image.info:
    return False
  if "adobe_transform" in image.info:
    return image.info["adobe_transform"] == 0
  return tuple(layer[0] for layer in image.layer) == _RGB_COMPONENTS


def _iptc_segment(iptc: bytes) -> bytes:
  """The segment of a JPEG file with IPTC records."""
  if not iptc:
    return b""
  resource = b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
  content = b"Photoshop 3.0\0" + resource
  return b"\xff\xed" + struct.pack(">H", len(content) + 2) + content


def _is_lossless_webp(data: bytes) -> bool:
  position = 12
  while position + 8 <= len(data):
    name, size = struct.unpack_from("<4sI", data, position)
    if name in (b"VP8L", b"VP8 "):
      return name == b"VP8L"
    position += 8 + size + size % 2
  return False
