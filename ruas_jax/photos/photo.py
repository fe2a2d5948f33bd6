"""A photograph as it was read: its samples, and everything needed to write another picture in the same form."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Metadata:
  """The metadata of a picture, in a form that all formats share.

  Attributes:
    exif: a TIFF structure (without the JPEG prefix), with the orientation reset.
    xmp: the XMP packet, with the orientation reset.
    profile: the ICC profile of the samples.
    iptc: IPTC records (captions, keywords).
    dpi: horizontal and vertical resolution per inch.
    comment: a JPEG comment.
    native: all metadata in the form of the source's format: the chunks of a PNG, the `Directory` of a TIFF.
  """

  exif: bytes = b""
  xmp: bytes = b""
  profile: bytes = b""
  iptc: bytes = b""
  dpi: tuple[float, float] | None = None
  comment: bytes = b""
  native: Any = None


@dataclass(frozen=True, eq=False)
class Photo:
  """A photograph, with everything needed to write another picture in the same form.

  Attributes:
    samples: uint8 or uint16 [H, W, C], upright: grey or RGB, then alpha if the file has it.
    path: the file it was read from.
    format: a value of `data.formats.PHOTO_FORMATS`, or `RAW`.
    metadata: the metadata of the file.
    storage: how the file stores its samples: a `Layout` for TIFF, else the options of its encoder or None.
    warnings: one line for each thing that was damaged or could not be kept.
  """

  samples: np.ndarray = field(repr=False)
  path: Path
  format: str
  metadata: Metadata = field(default=Metadata(), repr=False)
  storage: Any = field(default=None, repr=False)
  warnings: tuple[str, ...] = ()

  @property
  def colours(self) -> int:
    """Number of channels without alpha: 1 for a grey photograph, else 3."""
    return count_colours(self.samples)

  @property
  def bits(self) -> int:
    """Bits per sample that the file has. Samples of 10 and 12 bits are read as 16."""
    stored = self.storage.get("bits") if isinstance(self.storage, dict) else None
    return stored or 8 * self.samples.itemsize

  def values(self, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
    """A window as float32 [h, w, 3] in [0, 1]. A grey photograph gives three equal channels."""
    colour = self.samples[rows, columns, : self.colours]
    scaled = colour.astype(np.float32) / np.float32(np.iinfo(colour.dtype).max)
    return np.repeat(scaled, 3, axis=-1) if self.colours == 1 else scaled

  def to_levels(self, values: np.ndarray) -> np.ndarray:
    """Enhanced values of a window, finite float [h, w, 3], as samples [h, w, colours]: clipped to [0, 1] and rounded to
    the nearest level. A grey photograph gets the mean of the three channels: they estimate the same quantity, and the
    mean is exact if they are equal."""
    values = np.asarray(values, np.float32)
    values = values.mean(axis=-1, keepdims=True) if self.colours == 1 else values
    return np.rint(np.clip(values, 0, 1) * np.iinfo(self.samples.dtype).max).astype(self.samples.dtype)


def count_colours(samples: np.ndarray) -> int:
  """Number of channels of samples [H, W, C] without alpha: 1 for grey, 3 for RGB."""
  return 1 if samples.shape[-1] <= 2 else 3


class Refused(Exception):
  """The file is healthy, but it cannot be written back without loss; the message says why."""
