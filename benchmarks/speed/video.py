"""Ten seconds of dark video at 1080p: frames per second, flicker, and whether sound and times are copied.

    python -m benchmarks.speed.video --json benchmarks/results/video.json

The clip is made here from free photographs of scikit-image: four scenes with a cut between them. One pans under light
that changes slowly, one stands still under light that flickers, in one an object passes, and one is darker and shaken
like a hand-held camera. All have noise. Flicker is the mean change of log brightness from frame to frame, cuts left
out, of the result relative to the clip; brightness is the mean of a frame's RGB values, read back from the encoded
files. The background is the lower part of the scene with the object: how much its brightness changes in the whole
scene. "alone" is a small clip, each frame of which is enhanced as a photograph.
"""

import pathlib
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import skimage.data
import skimage.transform

from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax.engine.memory import keep_freed_memory
from ruas_jax.engine.progress import progress
from ruas_jax.srgb import from_light, to_light

SIZE, RATE, SECONDS = (1080, 1920), 24, 10
QUICK_SIZE, QUICK_SECONDS = (144, 256), 2
SAMPLES = 48_000  # of sound in a second
NOISE = 2.0  # standard deviation in levels of 255
SCENES = ("slow light", "flickering light", "passing object", "hand-held, darker")
OBJECT = 2  # its scene
BACKGROUND = 4  # one part of so many of the rows
AUDIO_FRAME = 1024


def clip(size: tuple[int, int], count: int) -> Iterator[np.ndarray]:
  """Frames uint8 `[H, W, 3]`."""
  rng = np.random.default_rng(0)
  (height, width), each = size, count // len(SCENES)
  noise = rng.normal(0, NOISE, (height + 64, width + 64, 3)).astype(np.float32)
  pictures = [_enlarged(name, size) for name in ("coffee", "chelsea", "rocket", "astronaut")]
  small = _enlarged("astronaut", (height // 2, height // 2))[: height // 2, : height // 2]
  for number in range(count):
    scene, step = min(number // each, len(SCENES) - 1), number % each / each
    picture, shaken = pictures[scene], rng.integers(0, max(2, height // 180), 2) if scene == 3 else (0, 0)
    room = np.subtract(picture.shape[:2], size) - height // 180
    top, left = (int(step * length * (scene in (0, 3))) + shake for length, shake in zip(room, shaken, strict=True))
    frame = picture[top : top + height, left : left + width].copy()
    if scene == OBJECT:
      start = int(step * (width - small.shape[1]))
      frame[: small.shape[0], start : start + small.shape[1]] = small
    light = (0.06 * 2 ** np.sin(2 * np.pi * step), 0.06 * (1 + 0.1 * rng.uniform(-1, 1)), 0.06, 0.02)[scene]
    table = 255 * from_light(to_light(np.arange(256, dtype=np.float32) / 255) * np.float32(light))
    row, column = rng.integers(0, 64, 2)
    values = table.astype(np.float32)[frame] + noise[row : row + height, column : column + width]
    yield np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def _enlarged(name: str, size: tuple[int, int]) -> np.ndarray:
  """A photograph that is a fifth larger than `size` on at least one side, and not smaller on the other."""
  picture = getattr(skimage.data, name)()
  scale = 1.2 * max(length / original for length, original in zip(size, picture.shape[:2], strict=True))
  shape = [int(np.ceil(scale * length)) for length in picture.shape[:2]]
  return np.rint(skimage.transform.resize(picture / 255, shape) * 255).astype(np.uint8)


def write_clip(path: pathlib.Path, size: tuple[int, int], seconds: int) -> None:
  """The clip as H.264 with BT.709 in the limited range, and two channels of tone and noise as AAC."""
  import av

  av.logging.set_level(None)
  with av.open(str(path), "w") as output:
    pictures = output.add_stream("libx264", rate=RATE, options={"crf": "12", "preset": "veryfast"})
    pictures.height, pictures.width, pictures.pix_fmt = *size, "yuv420p"
    context = pictures.codec_context
    context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
    sound = output.add_stream("aac", rate=SAMPLES, layout="stereo")
    for frame in clip(size, seconds * RATE):
      frame = av.VideoFrame.from_ndarray(frame, "rgb24").reformat(
        format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
      )
      output.mux(pictures.encode(frame))
    output.mux(pictures.encode(None))
    times = np.arange(seconds * SAMPLES) / SAMPLES
    wave = np.stack([0.3 * np.sin(2 * np.pi * 440 * times), np.random.default_rng(1).normal(0, 0.1, times.size)])
    for start in range(0, times.size - AUDIO_FRAME, AUDIO_FRAME):
      part = np.ascontiguousarray(wave[:, start : start + AUDIO_FRAME].astype(np.float32))
      frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
      frame.sample_rate, frame.pts = SAMPLES, start
      output.mux(sound.encode(frame))
    output.mux(sound.encode(None))


def packets(path: pathlib.Path, kind: str) -> list[tuple]:
  """(time, duration, bytes) of each packet of the sound; of the pictures the times alone, in their order."""
  import av

  with av.open(str(path)) as container:
    found = [packet for packet in container.demux(**{kind: 0}) if packet.size]
    row = lambda each: (each.pts * each.time_base, (each.duration or 0) * each.time_base)
    return sorted(row(each) for each in found) if kind == "video" else [(*row(each), bytes(each)) for each in found]


def flicker(means: np.ndarray, starts: list[int]) -> list[float]:
  """Mean change of log brightness from frame to frame in each scene."""
  stops = [*starts[1:], len(means)]
  return [float(np.abs(np.diff(np.log(means[start:stop]))).mean()) for start, stop in zip(starts, stops, strict=True)]


def brightness(path: pathlib.Path, survey, change=lambda values: values) -> tuple[np.ndarray, np.ndarray]:
  """Mean of each frame after `change`, and that of its background."""
  from ruas_jax.video.colour import to_rgb
  from ruas_jax.video.reading import frames_of, opened, planes_of

  means, backgrounds = [], []
  with opened(path) as (container, stream):
    for packet in container.demux(stream):
      for frame in frames_of(packet):
        values = change(np.asarray(to_rgb(planes_of(frame, survey.layout), survey.layout)))
        means.append(values.mean())
        backgrounds.append(values[-len(values) // BACKGROUND :].mean())
  return np.array(means), np.array(backgrounds)


def background_change(means: np.ndarray, starts: list[int]) -> float:
  """The brightest background of the scene with the object, relative to the darkest, minus 1."""
  scene = means[starts[OBJECT] : starts[OBJECT + 1]]
  return float(scene.max() / scene.min() - 1)


def main() -> None:
  parser = argument_parser(__doc__)
  parser.add_argument("--picture", type=pathlib.Path, help="write a frame before and after to this file")
  arguments = parser.parse_args()
  size, seconds = (QUICK_SIZE, QUICK_SECONDS) if arguments.quick else (SIZE, SECONDS)
  keep_freed_memory()  # as the command does

  from ruas_jax.photos.enhancer import Enhancer
  from ruas_jax.photos.pretrained import load_pretrained
  from ruas_jax.video.enhance import enhance_videos
  from ruas_jax.video.reading import look_through

  model = load_pretrained("general")
  with tempfile.TemporaryDirectory() as folder:
    source, target, small, short = (
      pathlib.Path(folder) / f"{name}.mp4" for name in ("clip", "bright", "small", "short")
    )
    write_clip(source, size, seconds)
    write_clip(short, size, 1)
    enhance_videos(model, [(short, target)])  # compiles
    start = time.perf_counter()
    before = look_through(source)
    middle = time.perf_counter()
    done = enhance_videos(model, [(source, target)], overwrite=True, progress=progress)
    stop = time.perf_counter()
    if not done.written:
      raise RuntimeError(f"not enhanced: {done.failures}")
    (clips, clip_background), (results, background) = (brightness(path, before) for path in (source, target))
    sound = [packets(path, "audio") for path in (source, target)]
    times = [packets(path, "video") for path in (source, target)]
    sizes = [path.stat().st_size / 1e6 for path in (source, target)]
    write_clip(small, QUICK_SIZE, seconds)
    seen = look_through(small)
    alone, alone_background = brightness(small, seen, Enhancer(model))
    if arguments.picture:
      _save(arguments.picture, source, target)
  frames = len(before.means)
  changes = [flicker(means, before.starts) for means in (clips, results)]
  changes += [flicker(means, seen.starts) for means in (np.array(seen.means), alone)]
  rows = [
    {"scene": name, "clip": one, "result": other, "ratio": other / one, "ratio_alone": alone_other / alone_one}
    for name, one, other, alone_one, alone_other in zip(SCENES, *changes, strict=True)
  ]
  print_table(rows, title=f"change of brightness from frame to frame, {frames} frames of {size[1]}x{size[0]}")
  figures = {
    "frames": frames,
    "seconds": stop - middle,
    "frames_per_second": frames / (stop - middle),
    "look_through_seconds": middle - start,
    "cuts": before.starts[1:],
    "background_change": {
      "clip": background_change(clip_background, before.starts),
      "result": background_change(background, before.starts),
      "alone": background_change(alone_background, seen.starts),
    },
    "sound_packets": len(sound[0]),
    "megabytes": dict(zip(("clip", "result"), sizes, strict=True)),
  }
  print_table([figures], title="all")
  changed = sum(one != other for one, other in zip(*sound, strict=True))
  write_report(
    arguments.json,
    settings={"size": size, "rate": RATE, "seconds": seconds, "noise": NOISE, "quick": arguments.quick},
    results={"scenes": rows, **figures},
    bars={
      "video_flicker": max(row["ratio"] for row in rows),
      "video_changed_sound_packets": changed,
      "video_changed_times": sum(one != other for one, other in zip(*times, strict=True)),
    },
  )


def _save(path: pathlib.Path, source: pathlib.Path, target: pathlib.Path) -> None:
  """The frame in the middle, before above after."""
  from PIL import Image

  from ruas_jax.video.reading import read_middle

  Image.fromarray(np.concatenate([read_middle(each).samples for each in (source, target)])).save(path)


if __name__ == "__main__":
  main()
