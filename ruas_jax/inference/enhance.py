"""Enhancing image files: each is read, enhanced at its own size, and written beside nothing else."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.inference.image_files import collect_inputs, read_photo, write_photo
from ruas_jax.inference.model import Model, enhance


def enhance_files(
  model: Model,
  inputs: Iterable[str | os.PathLike],
  out: str | os.PathLike,
  *,
  strength: float = 1.0,
  overwrite: bool = False,
  on_file: Callable[..., None] | None = None,
) -> tuple[list[Path], list[str]]:
  """Enhances files and folders of files into the folder `out`.

  Args:
    model: what enhances.
    inputs: image files, or folders whose image files are taken.
    out: output folder, made if needed; each output has its input's name, size, format, bit depth and metadata.
    strength: 0 leaves the image as it is, 1 is the model's result, between them a blend.
    overwrite: replace existing outputs.
    on_file: called as `on_file(done)` after each file.
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
  forward = jax.jit(enhance)
  written, failures = [], []
  for done, (source, name) in enumerate(sources, start=1):
    target = Path(out) / name
    try:
      if target.exists() and not overwrite:
        raise UserError(f"{target} exists; --overwrite replaces it")
      photo = read_photo(source)
      lit = np.asarray(forward(model, jnp.asarray(photo.rgb)))
      write_photo(target, strength * lit + (1 - strength) * photo.rgb, photo, overwrite=overwrite)
      written.append(target)
    except UserError as error:
      failures.append(str(error))
    except (MemoryError, jax.errors.JaxRuntimeError):
      failures.append(f"{source}: too large for the memory here")
    if on_file:
      on_file(done)
  return written, failures
