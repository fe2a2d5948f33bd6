"""Bundled weights: `weights/NAME.npz` with the arrays and `weights/NAME.json` with everything else (`model.describe`).

The model card `weights/README.md` says how they were made and how good they are.
"""

import io
import json
import os
import pathlib
import zipfile
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.files import write_json
from ruas_jax.photos.model import Model, describe, described

Pretrained = Literal["general", "lol"]

_FOLDER = pathlib.Path(__file__).parent / "weights"


def load_pretrained(name: Pretrained = "general", *, folder: str | os.PathLike = _FOLDER) -> Model:
  """A model that is included in the package.

  Args:
    name: general, for photographs of all kinds; lol, for the LOL data set.
    folder: another folder that `write_pretrained` wrote.
  Raises:
    UserError: the model does not exist, or its files are damaged.
  """
  if name not in get_args(Pretrained):
    raise UserError(f"no pretrained model {name!r}; give one of {', '.join(get_args(Pretrained))}")
  description, arrays = (pathlib.Path(folder) / f"{name}.{suffix}" for suffix in ("json", "npz"))
  try:
    model = described(json.loads(description.read_text()), f"pretrained model {name}")
    with np.load(io.BytesIO(arrays.read_bytes())) as stored:
      weights = _fill(model.weights, stored)
  except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
    raise UserError(f"pretrained model {name} in {folder} cannot be read ({error})") from None
  return Model(weights, model.genotype, model.options)


def write_pretrained(folder: str | os.PathLike, name: Pretrained, model: Model, about: dict[str, Any]) -> None:
  """Writes the two files. `about`, a JSON object on the source of the weights, becomes part of the description."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  leaves = _leaves(model.weights)
  named: dict[str, Any] = {jax.tree_util.keystr(path): np.asarray(leaf, np.float32) for path, leaf in leaves}
  np.savez(folder / f"{name}.npz", **named)
  write_json(folder / f"{name}.json", describe(model) | {"weights_sha256": model.weights_sha256(), "about": about})


def _leaves(weights):
  return jax.tree_util.tree_flatten_with_path(weights)[0]


def _fill(shapes, stored):
  def load_leaf(path, shape):
    values = stored[jax.tree_util.keystr(path)]
    if values.shape != shape.shape:
      raise ValueError(f"{jax.tree_util.keystr(path)} has the shape {values.shape}, not {shape.shape}")
    return jnp.asarray(values, jnp.float32)

  return jax.tree_util.tree_map_with_path(load_leaf, shapes)
