"""AVIF files, by Pillow, which has 8 bits. Pillow gives the rotation of the container as the orientation of EXIF."""

import struct
from typing import Any

import numpy as np
from PIL import Image

from ruas_jax.photos.colour import SRGB_PRIMARIES, refuse_hdr
from ruas_jax.photos.metadata import plain_exif, read_exif, upright_xmp
from ruas_jax.photos.photo import Metadata, Photo
from ruas_jax.photos.pillow_files import QUALITY, save
from ruas_jax.photos.samples import from_pillow, upright

_SUBSAMPLINGS = {(0, 0): "4:4:4", (1, 0): "4:2:2", (1, 1): "4:2:0"}


def read_avif(image: Image.Image, data: bytes) -> tuple[np.ndarray, dict[str, Any], Metadata, list[str]]:
  """Samples [H, W, C], upright; how they are stored; metadata; and warnings."""
  header, warnings = _meta_box(data), []
  bits, subsampling = _codec(header)
  primaries, transfer = _colours(header)
  profile, xmp = image.info.get("icc_profile") or b"", image.info.get("xmp") or b""
  refuse_hdr(profile, transfer)
  if bits > 8:
    warnings.append(f"it is read with 8 of its {bits} bits per sample")
  if not profile and primaries not in SRGB_PRIMARIES:
    warnings.append(f"its colour description (primaries {primaries} of H.273) is left out: colours may differ")
  if b"tmap" in header:
    warnings.append("only the main picture of the file is kept, not its gain map")
  # An orientation in XMP alone repeats that of the container.
  orientation, exif, faults = read_exif(plain_exif(image.info.get("exif") or b""), b"")
  samples, profile, others = from_pillow(image, profile)
  metadata = Metadata(exif=exif, xmp=upright_xmp(xmp), profile=profile)
  return upright(samples, orientation), {"subsampling": subsampling}, metadata, warnings + faults + others


def encode_avif(samples: np.ndarray, photo: Photo, quality: int | None) -> bytes:
  """An AVIF file with the subsampling of colour of the photograph, if it was one."""
  metadata = photo.metadata
  colour = photo.storage["subsampling"] if photo.format == "AVIF" else "4:4:4"
  return save(
    samples,
    "AVIF",
    quality=QUALITY if quality is None else quality,
    subsampling="4:0:0" if samples.shape[-1] == 1 else colour,
    exif=metadata.exif,
    xmp=metadata.xmp,
    icc_profile=metadata.profile,
  )


def _meta_box(data: bytes) -> bytes:
  """The box that describes the pictures; empty if there is none."""
  position = 0
  while position + 8 <= len(data):
    size, name = struct.unpack_from(">I4s", data, position)
    if name == b"meta":
      return data[position : position + size]
    if size < 8:
      break
    position += size
  return b""


def _codec(header: bytes) -> tuple[int, str]:
  """Bits per sample and subsampling, from the configuration of AV1."""
  found = header.find(b"av1C")
  flags = header[found + 6] if 0 <= found < len(header) - 6 else 0x0C
  bits = 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
  return bits, _SUBSAMPLINGS.get((flags >> 3 & 1, flags >> 2 & 1), "4:4:4")


def _colours(header: bytes) -> tuple[int, int]:
  """Primaries and transfer curve, as numbers of ITU-T H.273; 2 is unknown."""
  found = header.find(b"colrnclx")
  return struct.unpack_from(">HH", header, found + 8) if 0 <= found < len(header) - 11 else (2, 2)
