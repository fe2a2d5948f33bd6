"""Exported files. A file gets its name only after its program was run and compared with the model."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.export.check import Difference, compare
from ruas_jax.export.program import Program, build_program, describe
from ruas_jax.files import check_writable, write_atomically
from ruas_jax.lowlight.network import run_folded
from ruas_jax.photos.model import Model

PLATFORMS = ("cpu", "cuda", "tpu")  # of StableHLO
LICENCES = {
  "general": "Apache-2.0",
  "lol": "trained on LOL, research data without a stated licence: check whether your use allows it",
}
"""Licences of the bundled weights."""


class Exported(NamedTuple):
  """A written file: its size in bytes, and how far its results are from the model's."""

  size: int
  differences: list[Difference]


def export_model(
  path: str | os.PathLike, model: Model, *, name: str, licence: str, windows: bool = False, overwrite: bool = False
) -> Exported:
  """Writes `path` completely or not at all. Its ending says the format: .onnx or .stablehlo.

  Args:
    path: the file.
    model: the model. Its variant is the one that the file computes.
    name: what the file is to call it.
    licence: the licence of the weights.
    windows: a second input `mean` `[batch]` is the mean of each whole image, if the images are windows of it.
    overwrite: replace an existing file.
  Raises:
    UserError: the ending or the model cannot be exported, the extra is missing, the file exists or cannot be written,
      or its results are not the model's.
  """
  formats = {".onnx": _onnx, ".stablehlo": _stablehlo}
  write = formats.get(pathlib.PurePath(path).suffix.lower())
  if write is None:
    raise UserError(f"{os.fspath(path)}: its name must end in {' or '.join(formats)}")
  if pathlib.Path(path).is_file() and not overwrite:
    raise UserError(f"{os.fspath(path)} exists already; set `overwrite` to replace it")
  program = build_program(model, windows=windows)
  check_writable(path)
  try:
    content, run = write(program, describe(model, name=name, licence=licence, windows=windows))
    differences = compare(model, run)
  except UserError as error:
    raise UserError(f"{os.fspath(path)}: not written: {error}") from None
  write_atomically(path, content)
  return Exported(len(content), differences)


def _onnx(program: Program, about: dict[str, str]):
  """The file's content, and the program in it as onnxruntime runs it."""
  try:
    import onnxruntime

    from ruas_jax.export.graph import onnx_model
  except ImportError as error:
    raise UserError(f'ONNX needs the extra export: pip install "ruas-jax[export]" ({error})') from None
  content = onnx_model(program, about).SerializeToString()
  session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
  names = [result.name for result in session.get_outputs()]

  def run(images: np.ndarray, mean: np.ndarray) -> Mapping[str, np.ndarray]:
    inputs = {"image": images} | ({"mean": mean} if program.windows else {})
    return {name: np.asarray(values) for name, values in zip(names, session.run(names, inputs), strict=True)}

  return content, run


def _stablehlo(program: Program, about: dict[str, str]):
  """The file's content, and the program in it after reading it back."""

  def forward(images: jax.Array, *mean: jax.Array) -> jax.Array:
    return run_folded(program.network, program.folded, images, None, *mean).image

  # The format has a single text of the program: its name.
  forward.__name__ = json.dumps(about)
  batch, height, width = jax.export.symbolic_shape("batch, height, width")
  inputs = [jax.ShapeDtypeStruct((batch, height, width, 3), jnp.float32)]
  inputs += [jax.ShapeDtypeStruct((batch,), jnp.float32)] * program.windows
  content = bytes(jax.export.export(jax.jit(forward), platforms=PLATFORMS)(*inputs).serialize())
  read = jax.export.deserialize(bytearray(content))

  def run(images: np.ndarray, mean: np.ndarray) -> Mapping[str, np.ndarray]:
    return {"result": np.asarray(read.call(images, *[mean] * program.windows))}

  return content, run
