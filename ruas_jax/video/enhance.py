"""Enhancing videos: each is measured, then decoded, enhanced and encoded at the same time, in batches of frames."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.lowlight.options import Precision
from ruas_jax.photos.enhance import Enhanced
from ruas_jax.photos.enhancer import Dtype, Enhancer, Plan
from ruas_jax.photos.inputs import is_video
from ruas_jax.photos.knobs import Knobs
from ruas_jax.photos.model import Model
from ruas_jax.photos.photo import Photo, Refused
from ruas_jax.photos.reading import read_photo
from ruas_jax.photos.sizes import TILE
from ruas_jax.photos.writing import check_quality, check_target
from ruas_jax.video.colour import Layout, Planes, from_rgb, to_rgb
from ruas_jax.video.exposure import steady
from ruas_jax.video.reading import frames_of, look_through, opened, planes_of, read_middle
from ruas_jax.video.writing import Writer, writer_of

_AHEAD = 2  # batches that are computed at the same time
_LARGEST_BATCH, _ACCELERATOR_BATCH = 16, 8


def enhance_videos(
  model: Model,
  files: Sequence[tuple[Path, Path]],
  *,
  strength: float = 1.0,
  denoise: float | None = None,
  exposure: float = 0.0,
  dtype: Dtype = "float32",
  precision: Precision = "high",
  quality: int | None = None,
  overwrite: bool = False,
  progress: Callable[[int, str], AbstractContextManager[Any]] | None = None,
) -> Enhanced:
  """Enhances videos one after the other. A video that fails does not stop the others.

  Args:
    model: the model.
    files: `(source, target)` of each video, as `collect_inputs` gives them.
    strength: blend of the video (0) and the model's result (1).
    denoise: blend of the result without (0) and with noise removal (1); None: that of the model's variant.
    exposure: stops of light that are added to the result.
    dtype: number format of the computation.
    precision: that of the convolutions' float32 products on an accelerator.
    quality: 1 to 100; None: 80.
    overwrite: replace existing outputs.
    progress: called as `progress(frames, description)`, like `engine.progress.progress`.
  Returns:
    The files that were written, the warnings and the failures.
  Raises:
    UserError: an option is wrong. Nothing has been written then.
  """
  knobs = Knobs(strength, denoise, exposure)
  knobs.check()
  check_quality(quality)
  enhancer = Enhancer(model, denoise=denoise, dtype=dtype, precision=precision)
  done = Enhanced([], [], [], [])
  for source, target in files:
    try:
      check_target(target, source, overwrite)
      warnings = _enhance_video(source, target, enhancer, knobs, quality, progress or _silent)
      done.warnings.extend((source, text) for text in warnings)
      done.written.append(target)
    except UserError as error:
      done.failures.append(str(error))
    except (MemoryError, jax.errors.JaxRuntimeError):
      done.failures.append(f"{source}: not enough memory for a video of this size")
  return done


def read_picture(path: Path) -> Photo:
  """A photograph, or the frame in the middle of a video."""
  return read_middle(path) if is_video(path) else read_photo(path)


def frames_at_once(height: int, width: int) -> int:
  """Frames of a batch. On a CPU as many as a window of a large image has pixels, since more do not fit in its cache."""
  few = 1 if jax.default_backend() == "cpu" else _ACCELERATOR_BATCH
  return min(max(few, TILE**2 // (height * width)), _LARGEST_BATCH)


def _enhance_video(
  source: Path, target: Path, enhancer: Enhancer, knobs: Knobs, quality: int | None, progress
) -> list[str]:
  """Enhances one video and gives its warnings."""
  with opened(source) as (_, stream):
    expected = stream.frames or int((stream.container.duration or 0) / 1e6 * (stream.average_rate or 0))
  with progress(expected, f"look through {source.name}") as bar:
    survey = look_through(source, bar.update, enhancer.measure or "mean")
  means = steady(survey.means, survey.light, survey.times, survey.starts)
  batch = frames_at_once(survey.height, survey.width)
  plan = enhancer.plan(survey.height, survey.width, batch)
  with (
    opened(source) as (container, stream),
    writer_of(target, container, stream, survey, quality) as writer,
    progress(len(means), f"enhance {source.name}") as bar,
  ):
    compute = lambda frames, few: _compute(frames, few, batch, plan, knobs, survey.layout, writer.layout)
    _run(container, stream, writer, means, batch, compute, bar)
    return survey.warnings + writer.warnings


def _run(container, stream, writer: Writer, means: np.ndarray, batch: int, compute, bar) -> None:
  """Decodes and encodes in this thread, and computes batches in others."""
  started, read, written = time.perf_counter(), 0, 0
  frames, under_way = [], deque()

  def start() -> None:
    nonlocal read
    few = means[read : read + len(frames)]
    if len(few) < len(frames):
      raise Refused("it changed while it was read")
    under_way.append((list(frames), pool.submit(compute, list(frames), few)))
    read += len(frames)
    frames.clear()
    while len(under_way) > _AHEAD:
      settle()

  def settle() -> None:
    nonlocal written
    those, job = under_way.popleft()
    for frame, planes in zip(those, job.result(), strict=True):
      writer.write(planes, frame)
    written += len(those)
    bar.update(written, fps=written / (time.perf_counter() - started))

  with ThreadPoolExecutor(_AHEAD) as pool:
    for packet in container.demux():
      if packet.stream.index != stream.index:
        writer.copy(packet)
        continue
      for frame in frames_of(packet):
        frames.append(frame)
        if len(frames) == batch:
          start()
    if frames:
      start()
    while under_way:
      settle()
  if read < len(means):
    raise Refused("it changed while it was read")


def _compute(
  frames: list[Any], means: np.ndarray, batch: int, plan: Plan, knobs: Knobs, layout: Layout, written: Layout
) -> list[Planes]:
  """The planes of enhanced frames. The last batch of a video may have fewer frames than its program."""
  before = np.stack([np.asarray(to_rgb(planes_of(frame, layout), layout)) for frame in frames])
  missing = batch - len(frames)
  padded = np.concatenate([before, np.repeat(before[-1:], missing, axis=0)]) if missing else before
  after = np.empty_like(before)
  part = lambda rows, columns: padded[:, rows, columns]
  for rows, columns, enhanced in plan.parts(part, np.pad(means, (0, missing), mode="edge")):
    after[:, rows, columns] = knobs.apply(enhanced[: len(frames)], before[:, rows, columns], None)
  if not np.isfinite(after).all():
    raise Refused("the enhanced frames have values that are not finite")
  return [tuple(np.asarray(plane) for plane in from_rgb(values, written)) for values in after]


class _Silence:
  def update(self, step: int, **metrics) -> None:
    pass


@contextlib.contextmanager
def _silent(total: int, description: str):
  yield _Silence()
