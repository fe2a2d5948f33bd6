"""Conversion of a photograph to another format, and what is lost by it."""

import dataclasses
from typing import NamedTuple

import numpy as np

from ruas_jax.photos import heic_files
from ruas_jax.photos.photo import Metadata, Photo, count_colours
from ruas_jax.photos.png_files import lost_outside_png

_FIELDS = {
  "exif": "EXIF",
  "xmp": "XMP",
  "profile": "the colour profile",
  "iptc": "IPTC",
  "dpi": "the resolution",
  "comment": "the comment",
}


class _Holds(NamedTuple):
  """What a format can store: bits per sample, alpha, grey, which fields of `Metadata`, and bits per sample of colour if
  they are fewer."""

  bits: int
  alpha: bool
  grey: bool
  fields: tuple[str, ...]
  colour_bits: int = 16


_PICTURE = ("exif", "xmp", "profile")
_FORMATS = {
  "PNG": _Holds(16, True, True, (*_PICTURE, "dpi", "comment")),
  "JPEG": _Holds(8, False, True, (*_PICTURE, "iptc", "dpi", "comment")),
  "WebP": _Holds(8, True, False, _PICTURE),
  "TIFF": _Holds(16, True, True, (*_PICTURE, "iptc", "dpi")),
  "BMP": _Holds(8, False, True, ("dpi",)),
  "HEIC": _Holds(heic_files.BITS, True, True, _PICTURE),
  "AVIF": _Holds(8, True, True, _PICTURE),
  "JPEG XL": _Holds(16, True, True, _PICTURE, colour_bits=8),
}


def convert(samples: np.ndarray, photo: Photo, format: str) -> tuple[np.ndarray, Photo, list[str]]:
  """The samples in a form that the format can store, the photograph with the metadata that it can store, and a list of
  what is lost. In the photograph's format only bits can be lost, those that its encoder does not write."""
  holds, lost = _FORMATS[format], []
  most = holds.bits if samples.shape[-1] == 1 else min(holds.bits, holds.colour_bits)
  if photo.bits > most:
    lost.append(f"{photo.bits - most} of its {photo.bits} bits per sample")
  if format == photo.format:
    return samples, photo, lost
  if samples.dtype == np.uint16 and most == 8:
    samples = np.round(samples / np.float32(257)).astype(np.uint8)
  if samples.shape[-1] in (2, 4) and not holds.alpha:
    if (samples[..., -1] != np.iinfo(samples.dtype).max).any():
      lost.append("transparency (replaced by white)")
    samples = _on_white(samples)
  values = {name: getattr(photo.metadata, name) for name in holds.fields}
  if count_colours(samples) == 1 and not holds.grey:
    samples = np.concatenate([np.repeat(samples[..., :1], 3, axis=-1), samples[..., 1:]], axis=-1)
    values["profile"] = b""  # it is a profile for grey
  lost += [name for field, name in _FIELDS.items() if getattr(photo.metadata, field) and not values.get(field)]
  if photo.format == "PNG":
    lost += lost_outside_png(photo.metadata.native)
  if photo.format == "HEIC":
    lost += heic_files.lost_outside_heic(photo)
  return samples, dataclasses.replace(photo, metadata=Metadata(**values)), lost


def _on_white(samples: np.ndarray) -> np.ndarray:
  most = np.iinfo(samples.dtype).max
  opacity = samples[..., -1:] / np.float32(most)
  return np.round(most + (samples[..., :-1] - np.float32(most)) * opacity).astype(samples.dtype)
