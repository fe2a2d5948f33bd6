"""Enhancing image files: each is read, enhanced at its full size, and written in its format.

While one photograph is decoded, earlier ones are computed and encoded. Only one large photograph is in memory at a
time, with the samples of its file. The computation needs memory for one or two windows of it.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.lowlight.options import Precision
from ruas_jax.photos.enhancer import Dtype, Enhancer, Plan
from ruas_jax.photos.inputs import Inputs, Skipped
from ruas_jax.photos.model import Model
from ruas_jax.photos.photo import Photo
from ruas_jax.photos.reading import read_photo
from ruas_jax.photos.sizes import TILE
from ruas_jax.photos.writing import check_quality, check_target, write_photo

_IN_FLIGHT = 2  # photographs that are computed, encoded or written while the next one is decoded,
_PIXELS_IN_FLIGHT = 4_000_000  # and the total number of their pixels


class Enhanced(NamedTuple):
  """The results for all inputs.

  Attributes:
    written: the files written, in the order of the inputs.
    skipped: pictures that were not processed, and folders that were not entered.
    warnings: `(source, text)` for everything that was damaged, changed or lost in a written file.
    failures: one line for each file that could not be enhanced.
  """

  written: list[Path]
  skipped: list[Skipped]
  warnings: list[tuple[Path, str]]
  failures: list[str]


def enhance_files(
  model: Model,
  inputs: Inputs,
  *,
  strength: float = 1.0,
  dtype: Dtype = "float32",
  precision: Precision = "high",
  tile: int = TILE,
  quality: int | None = None,
  overwrite: bool = False,
  on_file: Callable[..., None] | None = None,
) -> Enhanced:
  """Enhances the files that `collect_inputs` found. A file that fails does not stop the others.

  Args:
    model: the model.
    inputs: result of `collect_inputs`. Each output has its input's name, size, format, bit depth and metadata.
    strength: blend of the image (0) and the model's result (1).
    dtype: number format of the computation.
    precision: that of the convolutions' float32 products on an accelerator.
    tile: side in pixels of the windows in which large photographs are computed; memory grows with its square.
    quality: 1 to 100, for JPEG and for WebP that is not lossless; None: that of each input.
    overwrite: replace existing outputs.
    on_file: called as `on_file(done)` after each file, in the order of the files.
  Returns:
    The files that were written and skipped, the warnings and the failures.
  Raises:
    UserError: `strength`, `quality` or the output folder are wrong. Nothing has been written then.
  """
  if not 0 <= strength <= 1:
    raise UserError(f"`strength` must be between 0 and 1, not {strength}")
  check_quality(quality)
  folder = inputs.out.parent if inputs.format else inputs.out
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f"`out` {inputs.out}: cannot be written ({error.strerror or error})") from None
  enhancer = Enhancer(model, dtype=dtype, precision=precision, tile=tile)
  done = Enhanced([], list(inputs.skipped), [], [])
  flight, stopped = deque(), threading.Event()

  def begin(source: Path, target: Path) -> tuple[int, Future]:
    """Reads and plans in this thread, in the order of the files; the rest runs in other threads."""
    check_target(target, source, overwrite)
    photo = read_photo(source)
    height, width = photo.samples.shape[:2]
    plan = enhancer.plan(height, width)
    return height * width, pool.submit(finish, photo, plan, target)

  def finish(photo: Photo, plan: Plan, target: Path) -> list[str]:
    samples = photo.samples.copy()  # keeps alpha
    for rows, columns, enhanced in plan.parts(photo.values):
      if stopped.is_set():
        return []
      values = strength * enhanced + (1 - strength) * photo.values(rows, columns)
      if not np.isfinite(values).all():
        raise UserError(f"{target}: not written, because the enhanced image has values that are not finite")
      samples[rows, columns, : photo.colours] = photo.to_levels(values)
    lost = write_photo(target, samples, photo, format=inputs.format, quality=quality, overwrite=overwrite)
    return [*photo.warnings, *lost]

  def settle() -> None:
    """Waits for the oldest photograph."""
    source, target, _, job = flight.popleft()
    try:
      done.warnings.extend((source, text) for text in job.result())
      done.written.append(target)
    except UserError as error:
      done.failures.append(str(error))
    except (MemoryError, jax.errors.JaxRuntimeError):
      done.failures.append(f"{source}: not enough memory for an image of this size")
    if on_file:
      on_file(len(done.written) + len(done.failures))

  pool = ThreadPoolExecutor(_IN_FLIGHT)
  try:
    for source, target in inputs.files:
      try:
        flight.append((source, target, *begin(source, target)))
      except (UserError, MemoryError, jax.errors.JaxRuntimeError) as error:
        flight.append((source, target, 0, _failed(error)))
      while len(flight) > _IN_FLIGHT or sum(pixels for _, _, pixels, _ in flight) > _PIXELS_IN_FLIGHT:
        settle()
    while flight:
      settle()
  finally:  # after an error, each running file is written completely, or not at all
    stopped.set()
    pool.shutdown(cancel_futures=True)
  return done


def _failed(error: Exception) -> Future:
  future = Future()
  future.set_exception(error)
  return future
