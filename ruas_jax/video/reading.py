"""Reads videos: what their frames are, their brightness and cuts, and the frames themselves.

A video is read twice. The first time finds what is damaged or not supported, the mean of each frame and the cuts,
before an hour is spent on its enhancement. Refused by name: HDR (PQ, HLG, Dolby Vision), interlaced frames,
transparency, frames of several sizes, and pixels or colours that `colour` does not convert.
"""

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ruas_jax.data.formats import VIDEO, format_of_content
from ruas_jax.errors import UserError
from ruas_jax.photos.extras import package
from ruas_jax.photos.photo import Metadata, Photo, Refused
from ruas_jax.video.colour import Layout, Planes, to_rgb, weights_of
from ruas_jax.video.exposure import CUT, distance, glance, light_change

_HDR = {16: "PQ", 18: "HLG"}  # FFmpeg's numbers of transfer curves
_DOLBY = ("dvh1", "dvhe", "dva1", "dvav", "dav1")  # codec tags
_RIGHT_ANGLES = {0: 0, 90: 1, 180: 2, -180: 2, 270: 3, -90: 3}
_TOLERANCE = 0.5  # seconds that the last frame may be before the declared end
_RELIABLE = ("mov", "matroska")  # demuxers of containers that declare their length


class Survey(NamedTuple):
  """A video, measured.

  Attributes:
    layout: how its planes hold colours.
    height, width: of the stored frames, before a rotation.
    times: seconds of each frame.
    means: mean brightness of each frame.
    light: logarithm of the light of each frame, relative to the first frame of its scene.
    starts: the first frame of each scene.
    first: the first frame.
    warnings: one line for each thing that is damaged.
  """

  layout: Layout
  height: int
  width: int
  times: list[float]
  means: list[float]
  light: list[float]
  starts: list[int]
  first: Any
  warnings: list[str]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
  """PyAV's container of a video, and the stream of its pictures.

  Raises:
    UserError: the file cannot be opened or has no pictures, or the block meets a damaged part.
  """
  av = package(VIDEO)
  # Errors are reported by exceptions. With any level, a decoder's thread would wait for the interpreter to log
  # something, while the interpreter waits for that thread to end.
  av.logging.set_level(None)
  try:
    with path.open("rb") as file:
      beginning = file.read(32)
    if not beginning:
      raise Refused("the file is empty")
    kind = format_of_content(beginning)
    if kind not in (None, VIDEO):
      raise Refused(f"it holds {kind}, not a video")
    # A name may look like that of a network protocol, and a file may name others.
    options = {"protocol_whitelist": "file"}
    with av.open(f"file:{path}", options=options, metadata_errors="replace") as container:
      streams = [each for each in container.streams.video if not each.disposition & av.stream.Disposition.attached_pic]
      if not streams:
        raise Refused("it has no video stream")
      if streams[0].codec_context is None:
        raise Refused("its codec is not supported")
      streams[0].thread_type = "AUTO"
      yield container, streams[0]
  except av.error.InvalidDataError as error:
    raise UserError(f"{path}: not a readable video, it may be damaged or incomplete") from error
  except (av.error.FFmpegError, OSError) as error:
    raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
  except Refused as error:
    raise UserError(f"{path}: {error}") from error


def frames_of(packet: Any) -> Iterator[Any]:
  """The frames that a packet completes, each with its time."""
  for frame in packet.decode():
    if frame.pts is None:
      frame.pts = frame.dts
    yield frame


def look_through(path: Path, on_frame: Callable[[int], None] | None = None, measure: str = "mean") -> Survey:
  """Reads a whole video and measures it, its brightness as a model with this measure does.

  Raises:
    UserError: it is damaged, incomplete or not supported.
  """
  times, means, light, starts, before, damaged, first, end = [], [], [], [0], None, 0, None, 0.0
  with opened(path) as (container, stream):
    for packet in container.demux():
      if packet.pts is not None and packet.stream.type in ("video", "audio"):
        end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
      if packet.stream.index != stream.index:
        continue
      for frame in frames_of(packet):
        if first is None:
          first, layout = frame, _layout_of(frame, stream)
        _check(frame, first, times[-1] if times else None)
        seen = glance(planes_of(frame, layout), layout, measure)
        cut = before is not None and distance(before, seen.thumbnail) > CUT
        if cut:
          starts.append(len(means))
        light.append(0.0 if cut or before is None else light[-1] + light_change(before, seen.thumbnail))
        before = seen.thumbnail
        times.append(float(frame.time))
        means.append(seen.mean)
        damaged += bool(frame.is_corrupt)
        if on_frame:
          on_frame(len(means))
    if first is None:
      raise Refused("it has no frame that can be decoded")
    _check_end(container, stream, first, end)
  warnings = [f"{damaged} of {len(means)} frames are damaged"] if damaged else []
  return Survey(layout, first.height, first.width, times, means, light, starts, first, warnings)


def read_middle(path: Path) -> Photo:
  """The frame in the middle of a video, upright, as a photograph."""
  with opened(path) as (container, stream):
    if container.duration:
      container.seek((container.start_time or 0) + container.duration // 2)
    frame = next(container.decode(stream), None)
    if frame is None:
      raise Refused("it has no frame that can be decoded")
    layout = _layout_of(frame, stream)
    _check(frame, frame, None)
    values = np.asarray(to_rgb(planes_of(frame, layout), layout))
  turned = np.rot90(values, _RIGHT_ANGLES.get(round(frame.rotation), 0))
  return Photo(np.ascontiguousarray(np.rint(turned * 255).astype(np.uint8)), path, VIDEO, Metadata())


def planes_of(frame: Any, layout: Layout) -> Planes:
  """The planes of a frame."""
  if frame.format.name != layout.name:
    frame = _in_planes(frame, layout)
  kind = np.dtype("<u2" if layout.bits > 8 else "u1")
  rows = [np.frombuffer(plane, kind).reshape(-1, plane.line_size // kind.itemsize) for plane in frame.planes]
  return tuple(part[: plane.height, : plane.width] for part, plane in zip(rows, frame.planes, strict=True))


def _in_planes(frame: Any, layout: Layout) -> Any:
  """The same samples in planes. The full range's other names are those of the same planes."""
  same = {"yuvj420p": "yuv420p", "yuvj422p": "yuv422p", "yuvj444p": "yuv444p"}
  if same.get(frame.format.name) == layout.name:
    return frame
  # Equal matrix and range on both sides, so that only the order of the samples changes.
  ranges = {"src_color_range": frame.color_range, "dst_color_range": frame.color_range}
  return frame.reformat(format=layout.name, **ranges)


def _layout_of(frame: Any, stream: Any) -> Layout:
  """The layout of a frame's planes.

  Raises:
    Refused: they are not supported.
  """
  form, curve = frame.format, max(frame.color_trc, stream.codec_context.color_trc)
  if curve in _HDR or stream.codec_context.codec_tag in _DOLBY:
    raise Refused(f"HDR ({_HDR.get(curve, 'Dolby Vision')}) is not supported: convert it to SDR")
  parts = form.components
  if len(parts) in (2, 4):
    raise Refused("videos with transparency are not supported")
  bits = {part.bits for part in parts}
  if len(bits) > 1 or not 8 <= max(bits) <= 16 or form.has_palette or "float" in form.name or form.name.endswith("be"):
    raise Refused(f"the pixel format {form.name} is not supported")
  try:
    weights = None if form.is_rgb else weights_of(frame.colorspace, frame.height)
  except KeyError:
    raise Refused(f"the colour matrix {frame.colorspace} is not supported") from None
  # Grey pixels have the full range if nothing is stated, as in FFmpeg.
  full = form.is_rgb or form.name.startswith("yuvj") or frame.color_range == 2
  full = full or (len(parts) == 1 and frame.color_range != 1)
  across, down = (0, 0) if len(parts) == 1 else (-(-form.width // parts[1].width), -(-form.height // parts[1].height))
  if (across, down) not in ((0, 0), (1, 1), (2, 1), (2, 2)):
    raise Refused(f"the pixel format {form.name} is not supported")
  return Layout(max(bits), across, down, full, weights)


def _check(frame: Any, first: Any, time: float | None) -> None:
  """Raises Refused for a frame that does not continue the video."""
  if frame.interlaced_frame:
    raise Refused("interlaced videos are not supported: deinterlace it")
  if (frame.width, frame.height, frame.format.name) != (first.width, first.height, first.format.name):
    raise Refused("its frames have several sizes or pixel formats, which is not supported")
  if frame.pts is None:
    raise Refused("its frames have no times")
  if time is not None and float(frame.time) <= time:
    raise Refused(f"the times of its frames do not increase (at {time:.2f} s)")


def _check_end(container: Any, stream: Any, first: Any, end: float) -> None:
  """Raises Refused if a video ends before its declared end."""
  if container.duration is None or not container.format.name.startswith(_RELIABLE):
    return
  declared = float(Fraction(container.duration + (container.start_time or 0), 1_000_000))
  if end < declared - _TOLERANCE:
    raise Refused(f"the file ends early (at {end:.1f} s of {declared:.1f} s)")
