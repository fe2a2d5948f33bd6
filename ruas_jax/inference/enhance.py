"""Enhancing image files: each is read, enhanced at its own size, and written beside nothing else.

While one photograph is decoded, those before it are computed and encoded. Of large ones a single one is held at a time,
as it was read; what is computed of it at once is one window or two.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.inference.enhancer import Dtype, Enhancer, Plan
from ruas_jax.inference.image_files import Photo, collect_inputs, read_photo, write_photo
from ruas_jax.inference.model import Model
from ruas_jax.inference.sizes import TILE

_IN_FLIGHT = 2  # photographs that are computed, encoded or written while the next is decoded,
_PIXELS_IN_FLIGHT = 4_000_000  # and how many pixels they have together


def enhance_files(
  model: Model,
  inputs: Iterable[str | os.PathLike],
  out: str | os.PathLike,
  *,
  strength: float = 1.0,
  dtype: Dtype = "float32",
  tile: int = TILE,
  overwrite: bool = False,
  on_file: Callable[..., None] | None = None,
) -> tuple[list[Path], list[str]]:
  """Enhances files and folders of files into the folder `out`.

  Args:
    model: what enhances.
    inputs: image files, or folders whose image files are taken.
    out: output folder, made if needed; each output has its input's name, size, format, bit depth and metadata.
    strength: 0 leaves the image as it is, 1 is the model's result, between them a blend.
    dtype: what the model computes in.
    tile: side in pixels of the windows in which large photographs are run; memory grows with its square.
    overwrite: replace existing outputs.
    on_file: called as `on_file(done)` after each file, in the order of the files.
  Returns:
    The files written, and one line for each that failed; the others are processed all the same.
  Raises:
    UserError: `strength`, `inputs` or `out` are wrong as a whole; nothing has been written then.
  """
  if not 0 <= strength <= 1:
    raise UserError(f"--strength must lie between 0 and 1, not {strength}")
  sources = collect_inputs(inputs)
  if not sources:
    raise UserError("no image to enhance; name files or folders")
  try:
    Path(out).mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f"--out {out}: cannot be written ({error.strerror or error})") from None
  enhancer = Enhancer(model, dtype=dtype, tile=tile)
  written, failures, flight, stopped = [], [], deque(), threading.Event()

  def begin(source: Path, target: Path) -> tuple[int, Future]:
    """Reads and plans here, in the order of the files; the rest goes on by itself."""
    if target.exists() and not overwrite:
      raise UserError(f"{target} exists; --overwrite replaces it")
    photo = read_photo(source)
    height, width = photo.samples.shape[:2]
    plan = enhancer.plan(height, width)
    return height * width, pool.submit(finish, photo, plan, target)

  def finish(photo: Photo, plan: Plan, target: Path) -> None:
    samples = photo.samples.copy()  # alpha stays
    for rows, columns, lit in plan.parts(photo.values):
      if stopped.is_set():
        return
      values = strength * lit + (1 - strength) * photo.values(rows, columns)
      if not np.isfinite(values).all():
        raise UserError(f"{target}: not written, the enhanced image has values that are not finite")
      samples[rows, columns, : photo.colours] = photo.to_levels(values)
    write_photo(target, samples, photo, overwrite=overwrite)

  def settle() -> None:
    """Waits for the oldest."""
    source, target, _, job = flight.popleft()
    try:
      job.result()
      written.append(target)
    except UserError as error:
      failures.append(str(error))
    except (MemoryError, jax.errors.JaxRuntimeError):
      failures.append(f"{source}: too large for the memory here")
    if on_file:
      on_file(len(written) + len(failures))

  pool = ThreadPoolExecutor(_IN_FLIGHT)
  try:
    for source, name in sources:
      target = Path(out) / name
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
  return written, failures


def _failed(error: Exception) -> Future:
  future = Future()
  future.set_exception(error)
  return future
