"""JPEG XL files, by pillow-jxl-plugin: colour of 8 bits, grey of 8 or 16.

The decoder applies the orientation of the codestream; that in EXIF repeats it and is only reset. The encoder takes no
ICC profile, so colours are written as sRGB.
"""

import importlib
from typing import Any

import numpy as np

from ruas_jax.photos.colour import checked_profile, refuse_hdr, to_srgb
from ruas_jax.photos.extras import package
from ruas_jax.photos.jxl_header import read_header, without_jpeg
from ruas_jax.photos.metadata import plain_exif, read_exif, upright_xmp
from ruas_jax.photos.photo import Metadata, Photo, Refused
from ruas_jax.photos.pillow_files import LOSSY, QUALITY
from ruas_jax.photos.samples import check_size

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # channels -> the package's mode


def read_jxl(data: bytes) -> tuple[np.ndarray, dict[str, Any], Metadata, list[str]]:
  """Samples [H, W, C], upright; how they are stored; metadata; and warnings."""
  header, warnings = read_header(data), []
  check_size(header.width, header.height)
  if header.animated:
    raise Refused("it holds an animation, but only single pictures can be enhanced")
  if header.float:
    raise Refused("JPEG XL files of floating-point samples are not supported")
  info, content, profile, boxes = _decoded(without_jpeg(data))
  refuse_hdr(profile)
  channels = info.num_channels + info.has_alpha_channel * (info.num_channels in (1, 3))
  deep = len(content) == 2 * info.height * info.width * channels
  samples = np.frombuffer(content, np.uint16 if deep else np.uint8).reshape(info.height, info.width, channels)
  if header.bits > 8 and not deep:
    warnings.append(f"it is read with 8 of its {header.bits} bits per sample")
  parts = {name: content for name, content in reversed(boxes)}
  exif, xmp = parts.get(b"Exif", b""), parts.get(b"xml ", b"")
  if exif[4:8] in (b"II*\0", b"MM\0*"):  # the box begins with the position of its content
    exif = exif[4:]
  _, exif, faults = read_exif(plain_exif(exif), xmp)
  profile, others = checked_profile(profile, samples)
  metadata = Metadata(exif=exif, xmp=upright_xmp(xmp), profile=profile)
  return samples, {"lossless": not header.lossy}, metadata, warnings + faults + others


def encode_jxl(samples: np.ndarray, photo: Photo, quality: int | None) -> tuple[bytes, list[str]]:
  """A JPEG XL file, and a list of what it cannot hold. It is lossless if the photograph was lossless, unless a quality
  is given for another source format."""
  own = photo.storage["lossless"] if photo.format == "JPEG XL" else None
  lossless = photo.format not in LOSSY and quality is None if own is None else own
  samples, lost = to_srgb(samples, photo.metadata.profile)
  height, width, channels = samples.shape
  encode = package("JPEG XL").Encoder(
    mode="I;16" if samples.dtype == np.uint16 else _MODES[channels],
    lossless=lossless,
    quality=100 if lossless else QUALITY if quality is None else quality,
    use_container=True,
    use_original_profile=lossless,
  )
  exif, xmp = photo.metadata.exif, photo.metadata.xmp
  content = encode(
    np.ascontiguousarray(samples).tobytes(),
    width,
    height,
    jpeg_encode=False,
    exif=bytes(4) + exif if exif else None,
    jumb=None,
    xmp=xmp or None,
    compress=False,
  )
  return content, lost


def _decoded(data: bytes) -> tuple[Any, bytes, bytes, list[tuple[bytes, bytes]]]:
  """Size and channels, samples, ICC profile, and the boxes of a file as name and content."""
  try:
    _, info, content, profile, boxes = package("JPEG XL").Decoder(num_threads=-1)(data)
  except RuntimeError:  # its message is about building the package
    raise OSError("damaged JPEG XL data") from None
  return info, content, profile, [_unpacked(box.box_type, box.data) for box in boxes]


def _unpacked(name: bytes, content: bytes) -> tuple[bytes, bytes]:
  """A box, decompressed if it is."""
  if name != b"brob":
    return name, content
  brotli = importlib.import_module("brotli")
  try:
    return content[:4], brotli.decompress(content[4:])
  except brotli.error:
    raise OSError("damaged JPEG XL metadata") from None
