"""Enhancing image files: each is read, enhanced at its own size, and written beside nothing else.

While one photograph is decoded, those before it are computed and encoded. Of large ones a single one is held at a time,
as it was read; what is computed of it at once is one window or two.
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
from ruas_jax.photos.enhancer import Dtype, Enhancer, Plan
from ruas_jax.photos.inputs import Inputs, Skipped
from ruas_jax.photos.model import Model
from ruas_jax.photos.photo import Photo
from ruas_jax.photos.reading import read_photo
from ruas_jax.photos.sizes import TILE
from ruas_jax.photos.writing import check_quality, check_target, write_photo

_IN_FLIGHT = 2  # photographs that are computed, encoded or written while the next is decoded,
_PIXELS_IN_FLIGHT = 4_000_000  # and how many pixels they have together


class Enhanced(NamedTuple):
  """What became of the inputs.

  Attributes:
    written: the files written, in the order of the inputs.
    skipped: pictures that were not processed and folders that were not entered.
    warnings: `(source, text)` for everything that was damaged, changed or lost in a file that was written.
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
  tile: int = TILE,
  quality: int | None = None,
  overwrite: bool = False,
  on_file: Callable[..., None] | None = None,
) -> Enhanced:
  """Enhances the files that `collect_inputs` found; a file that fails does not stop the others.

  Args:
    model: what enhances.
    inputs: what `collect_inputs` returned. Each output has its input's name, size, format, bit depth and metadata.
    strength: 0 leaves the image as it is, 1 is the model's result, between them a blend.
    dtype: what the model computes in.
    tile: side in pixels of the windows in which large photographs are run; memory grows with its square.
    quality: 1 to 100, of JPEG and of WebP that is not lossless; None for that of each input.
    overwrite: replace existing outputs.
    on_file: called as `on_file(done)` after each file, in the order of the files.
  Returns:
    What was written and skipped, the warnings and the failures.
  Raises:
    UserError: `strength`, `quality` or the output are wrong as a whole; nothing has been written then.
  """
  if not 0 <= strength <= 1:
    raise UserError(f"--strength must lie between 0 and 1, not {strength}")
  check_quality(quality)
  folder = inputs.out.parent if inputs.format else inputs.out
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f"--out {inputs.out}: cannot be written ({error.strerror or error})") from None
  enhancer = Enhancer(model, dtype=dtype, tile=tile)
  done = Enhanced([], list(inputs.skipped), [], [])
  flight, stopped = deque(), threading.Event()

  def begin(source: Path, target: Path) -> tuple[int, Future]:
    """Reads and plans here, in the order of the files; the rest goes on by itself."""
    check_target(target, source, overwrite)
    photo = read_photo(source)
    height, width = photo.samples.shape[:2]
    plan = enhancer.plan(height, width)
    return height * width, pool.submit(finish, photo, plan, target)

  def finish(photo: Photo, plan: Plan, target: Path) -> list[str]:
    samples = photo.samples.copy()  # alpha stays
    for rows, columns, enhanced in plan.parts(photo.values):
      if stopped.is_set():
        return []
      values = strength * enhanced + (1 - strength) * photo.values(rows, columns)
      if not np.isfinite(values).all():
        raise UserError(f"{target}: not written, the enhanced image has values that are not finite")
      samples[rows, columns, : photo.colours] = photo.to_levels(values)
    lost = write_photo(target, samples, photo, format=inputs.format, quality=quality, overwrite=overwrite)
    return [*photo.warnings, *lost]

  def settle() -> None:
    """Waits for the oldest."""
    source, target, _, job = flight.popleft()
    try:
      done.warnings.extend((source, text) for text in job.result())
      done.written.append(target)
    except UserError as error:
      done.failures.append(str(error))
    except (MemoryError, jax.errors.JaxRuntimeError):
      done.failures.append(f"{source}: too large for the memory here")
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
  finally:  # where all is settled this does nothing; else a file is written whole, or not begun
    stopped.set()
    pool.shutdown(cancel_futures=True)
  return done


def _failed(error: Exception) -> Future:
  future = Future()
  future.set_exception(error)
  return future
