"""Writes an enhanced video: new pictures as H.264, everything else copied packet by packet.

The pictures keep the size, times, rotation, pixel aspect, colour matrix, range and subsampling of the video, and up to
10 bits per sample. Sound and subtitles keep their bytes and times.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ruas_jax.data.formats import VIDEO
from ruas_jax.errors import UserError
from ruas_jax.files import whole_file
from ruas_jax.photos.extras import package
from ruas_jax.photos.photo import Refused
from ruas_jax.video.colour import Layout, Planes
from ruas_jax.video.reading import Survey

QUALITY = 80
_ENCODER = "libx264"
_MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_MOST_BITS = 10
_BT709, _LIMITED = 1, 1  # FFmpeg's numbers


def rate_factor(quality: int | None) -> float:
  """x264's constant rate factor (CRF) for a quality from 1 to 100: 10 for 100, 18 for 80, 50 for 1. Small is good."""
  return 50 - 0.4 * (QUALITY if quality is None else quality)


def written_layout(survey: Survey) -> Layout:
  """The layout of the planes that are written for a video."""
  layout = survey.layout
  bits = 8 if layout.bits == 8 else _MOST_BITS
  if layout.weights is None:
    return Layout(bits, 1, 1, False, (0.2126, 0.0722))
  if not layout.across:
    return Layout(bits, 2, 2, layout.full, layout.weights)
  odd = survey.width % layout.across or survey.height % layout.down
  return layout._replace(bits=bits, across=1, down=1) if odd else layout._replace(bits=bits)


class Writer:
  """Writes the pictures of one video, and the other packets of its container.

  Args:
    output: PyAV's container of the result.
    container, stream: the source and its pictures.
    survey: what was measured of it.
    quality: 1 to 100, or None.
  Raises:
    Refused: its sound cannot be copied.
  """

  def __init__(self, output: Any, container: Any, stream: Any, survey: Survey, quality: int | None):
    self.warnings: list[str] = []
    self.layout = written_layout(survey)
    self._output, self._source, self._copies = output, stream, {}
    self._av = package(VIDEO)
    self._pictures = self._picture_stream(survey, quality)
    for other in container.streams:
      if other.index != stream.index:
        self._copy_of(other)
    output.metadata.update(container.metadata)
    output.set_chapters(container.chapters())

  def write(self, planes: Planes, like: Any) -> None:
    """Writes a frame with the time of another frame."""
    frame = self._av.VideoFrame(like.width, like.height, self.layout.name)
    for values, plane in zip(planes, frame.planes, strict=True):
      rows = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
      rows[:, : plane.width] = values
      plane.update(rows.tobytes())
    frame.pts, frame.time_base, frame.duration = like.pts, like.time_base, like.duration
    self._output.mux(self._pictures.encode(frame))

  def copy(self, packet: Any) -> None:
    """Copies a packet of another stream, if that stream is copied."""
    if packet.stream.index in self._copies and packet.dts is not None:
      packet.stream = self._copies[packet.stream.index]
      self._output.mux(packet)

  def finish(self) -> None:
    """Writes what the encoder still holds."""
    self._output.mux(self._pictures.encode(None))

  def _warn(self, text: str) -> None:
    if text not in self.warnings:
      self.warnings.append(text)

  def _picture_stream(self, survey: Survey, quality: int | None) -> Any:
    source, first = self._source, survey.first
    options = {"crf": f"{rate_factor(quality):g}"}
    stream = self._output.add_stream(_ENCODER, rate=source.average_rate or 25, options=options)
    context = stream.codec_context
    stream.width, stream.height, stream.pix_fmt = survey.width, survey.height, self.layout.name
    stream.time_base = context.time_base = source.time_base
    context.flags |= self._av.codec.context.Flags.frame_duration  # so that the last frame keeps its duration
    rgb = survey.layout.weights is None
    context.colorspace = _BT709 if rgb else first.colorspace
    context.color_range = _LIMITED if rgb else 2 if self.layout.full else first.color_range
    context.color_primaries, context.color_trc = first.color_primaries, first.color_trc
    if source.sample_aspect_ratio:
      stream.sample_aspect_ratio = context.sample_aspect_ratio = source.sample_aspect_ratio
    for data in first.side_data:
      if data.type.name == "DISPLAYMATRIX":
        stream.set_display_matrix(np.frombuffer(bytes(data), "<i4")[:9].tolist())
    if survey.layout.bits > self.layout.bits:
      self._warn(f"it loses {survey.layout.bits - self.layout.bits} of its {survey.layout.bits} bits")
    if (self.layout.across, self.layout.down) == (1, 1) and survey.layout.across == 2:
      self._warn("written as 4:4:4, because H.264 with fewer samples of colour needs even sides")
    stream.metadata.update(source.metadata)
    return stream

  def _copy_of(self, other: Any) -> None:
    """Opens the copy of a stream, or says why there is none."""
    if other.type not in ("audio", "subtitle"):
      self._warn(f"it loses a stream of {other.type}")
      return
    try:
      copy = self._output.add_stream_from_template(other)
    except (ValueError, AttributeError) as error:  # no tag for this codec; or no codec at all
      if other.type == "audio":
        raise Refused(f"its sound ({other.name}) cannot be copied into {self._output.format.name}") from error
      self._warn(f"it loses subtitles ({other.name})")
      return
    copy.metadata.update(other.metadata)
    copy.disposition = other.disposition
    self._copies[other.index] = copy


@contextlib.contextmanager
def writer_of(target: Path, container: Any, stream: Any, survey: Survey, quality: int | None) -> Iterator[Writer]:
  """A writer of a file, which gets its name when all is written. Nothing is left of a file that is not finished.

  Raises:
    UserError: the file cannot be written.
  """
  av = package(VIDEO)
  if _ENCODER not in av.codecs_available:
    raise UserError(f"{target}: cannot be written (this build of PyAV has no encoder {_ENCODER})")
  with whole_file(target) as temporary:
    muxer = _MUXERS[target.suffix.lower()]
    # Otherwise QuickTime containers drop the metadata of cameras.
    options = {"movflags": "use_metadata_tags"} if any("." in name for name in container.metadata) else {}
    with av.open(f"file:{temporary}", "w", format=muxer, options=options) as output:
      writer = Writer(output, container, stream, survey, quality)
      yield writer
      writer.finish()
