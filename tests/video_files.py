"""Tiny videos of many kinds for the tests, and what they hold."""

from fractions import Fraction

import av
import numpy as np

av.logging.set_level(None)
HEIGHT, WIDTH, FRAMES = 48, 64, 12
BASE = Fraction(1, 90_000)
_EXACT = ("BICUBIC", "ACCURATE_RND", "FULL_CHR_H_INT", "FULL_CHR_H_INP", "BITEXACT")
EXACT = sum(int(av.video.reformatter.Interpolation[name]) for name in _EXACT)
"""Flags of FFmpeg's conversion, which is rounded by more than a level without them."""
STEPS = (3000, 4500)  # durations of even and odd frames


def dark_frames(count: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray]:
  """uint8 RGB: a dark picture with noise, over which a brighter square moves."""
  rng = np.random.default_rng(0)
  picture = np.repeat(np.repeat(rng.integers(5, 60, (6, 8, 3)), height // 6, 0), width // 8, 1)
  frames = []
  for number in range(count):
    frame = picture + rng.integers(0, 6, picture.shape)
    left = number * (width - 12) // max(count - 1, 1)
    frame[8:20, left : left + 12] += 40
    frames.append(frame.astype(np.uint8))
  return frames


def write_video(
  path,
  frames=None,
  *,
  codec="libx264",
  pixels="yuv420p",
  sound="aac",
  tags=(1, 1, 1, 1),
  rotation=0,
  steps=STEPS,
  options=None,
  encoder=None,
  interlaced=False,
):
  """A video; `tags` are FFmpeg's numbers of the matrix, primaries, transfer curve and range."""
  frames = dark_frames() if frames is None else frames
  with av.open(str(path), "w", options=options or {}) as output:
    pictures = output.add_stream(codec, rate=24, options=encoder or {"crf": "5"})
    pictures.height, pictures.width, pictures.pix_fmt = *frames[0].shape[:2], pixels
    context = pictures.codec_context
    if steps:
      pictures.time_base = context.time_base = BASE
      context.flags |= av.codec.context.Flags.frame_duration
    context.colorspace, context.color_primaries, context.color_trc, context.color_range = tags
    if interlaced:
      context.flags |= av.codec.context.Flags.interlaced_dct
    if rotation:
      pictures.set_display_rotation(rotation)
    output.metadata["title"] = "a title"
    waves = output.add_stream(sound, rate=48_000, layout="stereo") if sound else None
    time = 0
    for number, values in enumerate(frames):
      frame = av.VideoFrame.from_ndarray(values, "rgb24")
      matrix = {1: "ITU709", 9: "BT2020"}.get(tags[0], "ITU601")
      frame = frame.reformat(format=pixels, dst_colorspace=matrix, dst_color_range="JPEG" if tags[3] == 2 else "MPEG")
      if steps:
        frame.pts, frame.time_base, frame.duration = time, BASE, steps[number % len(steps)]
        time += frame.duration
      output.mux(pictures.encode(frame))
    output.mux(pictures.encode(None))
    if waves:
      _write_sound(output, waves)
  return path


def write_sound(path, codec="aac"):
  """A file with sound and no pictures."""
  with av.open(str(path), "w") as output:
    _write_sound(output, output.add_stream(codec, rate=48_000, layout="stereo"))
  return path


def write_subtitled(path):
  """A Matroska file with two subtitles and two chapters."""
  plain, text = path.with_name("plain.mkv"), path.with_name("text.srt")
  text.write_text("1\n00:00:00,100 --> 00:00:00,300\nhello\n\n2\n00:00:00,300 --> 00:00:00,450\nworld\n")
  with av.open(str(write_video(plain))) as video, av.open(str(text)) as words, av.open(str(path), "w") as output:
    copies = [(source, {each.index: output.add_stream_from_template(each) for each in source.streams})
              for source in (video, words)]  # fmt: skip
    half = {"time_base": Fraction(1, 1000), "metadata": {"title": "half"}}
    output.set_chapters([{"id": 1, "start": 0, "end": 250, **half}, {"id": 2, "start": 250, "end": 500, **half}])
    for source, streams in copies:
      for packet in source.demux():
        if packet.size:
          packet.stream = streams[packet.stream.index]
          output.mux(packet)
  return path


def _write_sound(output, stream):
  kind = stream.codec_context.format.name
  noise = np.random.default_rng(0).normal(0, 0.1, (2, 24 * 960)).astype(np.float32)
  for start in range(0, noise.shape[1], 960):
    part = np.ascontiguousarray(noise[:, start : start + 960])
    if not kind.endswith("p"):  # packed
      part = np.ascontiguousarray(part.T).reshape(1, -1)
    part = np.rint(part * 32767).astype(np.int16) if kind.startswith("s16") else part
    frame = av.AudioFrame.from_ndarray(part, format=kind, layout="stereo")
    frame.sample_rate, frame.pts = 48_000, start
    output.mux(stream.encode(frame))
  output.mux(stream.encode(None))


def sound_of(path):
  """(time, duration, bytes) of each packet of the sound."""
  with av.open(str(path)) as container:
    return [
      (packet.pts * packet.time_base, packet.duration, bytes(packet))
      for packet in container.demux(audio=0)
      if packet.size
    ]


def times_of(path):
  """(time, duration) of each picture, in seconds."""
  with av.open(str(path)) as container:
    packets = [packet for packet in container.demux(video=0) if packet.size]
    return sorted((each.pts * each.time_base, (each.duration or 0) * each.time_base) for each in packets)


def frames_of(path):
  """All pictures, uint8 RGB, by FFmpeg's conversion."""
  with av.open(str(path)) as container:
    return [frame.to_ndarray(format="rgb24", interpolation=EXACT) for frame in container.decode(video=0)]
