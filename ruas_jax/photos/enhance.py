"""Enhancing image files: each is read, enhanced at its full size, and written in its format.

Photographs are decoded ahead, computed and encoded at the same time, in the order of the files. How many are in memory
depends on their size: a very large one is alone. The computation needs memory for one or two windows of each.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from ruas_jax.errors import UserError
from ruas_jax.lowlight.options import Precision
from ruas_jax.photos.enhancer import Dtype, Enhancer, Plan
from ruas_jax.photos.inputs import Inputs, Skipped
from ruas_jax.photos.knobs import Knobs
from ruas_jax.photos.model import Model
from ruas_jax.photos.photo import Photo
from ruas_jax.photos.previews import contact_sheet, for_sheet, split_picture, write_picture
from ruas_jax.photos.reading import read_photo
from ruas_jax.photos.sizes import TILE
from ruas_jax.photos.white_balance import gains_of
from ruas_jax.photos.writing import check_quality, check_target, write_photo

_PIXELS_IN_FLIGHT = 60_000_000  # of all photographs that are computed, encoded or written, before others are waited for


class Enhanced(NamedTuple):
  """The results for all inputs.

  Attributes:
    written: the files written, in the order of the inputs; for a contact sheet, the photographs on it.
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
  denoise: float | None = None,
  exposure: float = 0.0,
  white_balance: float = 0.0,
  dtype: Dtype = "float32",
  precision: Precision = "high",
  tile: int = TILE,
  quality: int | None = None,
  overwrite: bool = False,
  jobs: int | None = None,
  reader: Callable[[Path], Photo] = read_photo,
  on_file: Callable[..., None] | None = None,
) -> Enhanced:
  """Enhances the files that `collect_inputs` found. A file that fails does not stop the others.

  Args:
    model: the model.
    inputs: result of `collect_inputs`. Each output has its input's name, size, format, bit depth and metadata, or is a
      picture of before and after.
    strength: blend of the image (0) and the model's result (1).
    denoise: blend of the result without (0) and with noise removal (1); None: that of the model's variant.
    exposure: stops of light that are added to the result.
    white_balance: how much of the light's colour, estimated from each photograph, is taken away, 0 to 1.
    dtype: number format of the computation.
    precision: that of the convolutions' float32 products on an accelerator.
    tile: side in pixels of the windows in which large photographs are computed; memory grows with its square.
    quality: 1 to 100, for formats with loss; None: that of each input.
    overwrite: replace existing outputs.
    jobs: photographs that are decoded, and photographs that are computed and encoded, at the same time; None: a quarter
      of the cores, at least 2.
    reader: reads a file; for pictures of videos, another one than that of photographs.
    on_file: called as `on_file(done)` after each file, in the order of the files.
  Returns:
    The files that were written and skipped, the warnings and the failures.
  Raises:
    UserError: an option or the output folder are wrong. Nothing has been written then.
  """
  knobs = Knobs(strength, denoise, exposure, white_balance)
  knobs.check()
  check_quality(quality)
  jobs = max(2, (os.cpu_count() or 1) // 4) if jobs is None else jobs
  if jobs < 1:
    raise UserError(f"`jobs` must be at least 1, not {jobs}")
  if inputs.picture == "sheet":
    for source, target in inputs.files:
      check_target(target, source, overwrite)
  folder = inputs.out.parent if inputs.is_file else inputs.out
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f"`out` {inputs.out}: cannot be written ({error.strerror or error})") from None
  enhancer = Enhancer(model, denoise=denoise, dtype=dtype, precision=precision, tile=tile)
  done = Enhanced([], list(inputs.skipped), [], [])
  reading, flight, stopped = deque(), deque(), threading.Event()
  cells: list[tuple[str, Image.Image]] = []
  largest = 0

  def read(source: Path, target: Path) -> Photo:
    if inputs.picture != "sheet":
      check_target(target, source, overwrite)
    return reader(source)

  def finish(photo: Photo, plan: Plan, target: Path) -> tuple[list[str], Image.Image | None]:
    samples = photo.samples.copy()  # keeps alpha
    gains = gains_of(photo, white_balance)
    for rows, columns, enhanced in plan.parts(photo.values):
      if stopped.is_set():
        return [], None
      values = knobs.apply(enhanced, photo.values(rows, columns) if strength != 1 else enhanced, gains)
      if not np.isfinite(values).all():
        raise UserError(f"{target}: not written, because the enhanced image has values that are not finite")
      samples[rows, columns, : photo.colours] = photo.to_levels(values)
    warnings = list(photo.warnings)
    if inputs.picture == "result":
      options = {"format": inputs.format, "quality": quality, "overwrite": overwrite}
      return warnings + write_photo(target, samples, photo, **options), None
    picture = split_picture(photo, samples)
    if inputs.picture == "sheet":
      return warnings, for_sheet(picture)
    write_picture(target, picture, inputs.format or "JPEG", quality)
    return warnings, None

  def begin() -> None:
    """Plans the oldest photograph that was read, in this thread and in the order of the files, and starts it."""
    nonlocal largest
    source, target, photo = reading.popleft()
    try:
      photo = photo.result()
      height, width = photo.samples.shape[:2]
      largest = max(largest, height * width)
      flight.append((source, target, height * width, pool.submit(finish, photo, enhancer.plan(height, width), target)))
    except (UserError, MemoryError, jax.errors.JaxRuntimeError) as error:
      flight.append((source, target, 0, _failed(error)))
    while len(flight) > jobs or sum(pixels for _, _, pixels, _ in flight) > _PIXELS_IN_FLIGHT:
      settle()

  def settle() -> None:
    """Waits for the oldest photograph."""
    source, target, _, job = flight.popleft()
    try:
      warnings, cell = job.result()
      done.warnings.extend((source, text) for text in warnings)
      done.written.append(target)
      if cell:
        cells.append((source.name, cell))
    except UserError as error:
      done.failures.append(str(error))
    except (MemoryError, jax.errors.JaxRuntimeError):
      done.failures.append(f"{source}: not enough memory for an image of this size")
    if on_file:
      on_file(len(done.written) + len(done.failures))

  pool, readers = ThreadPoolExecutor(jobs), ThreadPoolExecutor(jobs)
  try:
    for source, target in inputs.files:
      reading.append((source, target, readers.submit(read, source, target)))
      ahead = jobs if 0 < 2 * jobs * largest <= _PIXELS_IN_FLIGHT else 1
      while len(reading) > ahead - 1:
        begin()
    while reading:
      begin()
    while flight:
      settle()
  finally:  # after an error, each running file is written completely, or not at all
    stopped.set()
    for executor in (readers, pool):
      executor.shutdown(cancel_futures=True)
  if cells:
    write_picture(inputs.out, contact_sheet(cells), inputs.format or "JPEG", quality)
  return done


def _failed(error: Exception) -> Future:
  future = Future()
  future.set_exception(error)
  return future
