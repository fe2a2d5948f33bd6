"""Whether an exported program computes what the model computes."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.lowlight.network import run_folded
from ruas_jax.photos.model import Model, fold

SIZES = ((1, 1), (5, 70), (64, 48), (203, 151), (400, 600))
LARGEST_DIFFERENCE = 1e-4

Run = Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]]
"""An exported program: images float32 `[B, H, W, 3]` and their means `[B]` -> its results by name."""


class Difference(NamedTuple):
  """The largest difference of any number of one result at one size."""

  result: str
  height: int
  width: int
  largest: float


def compare(model: Model, run: Run) -> list[Difference]:
  """How far each result of the program is from the model's, at every size.

  Raises:
    UserError: one is above `LARGEST_DIFFERENCE`, or not a number.
  """
  found = []
  for images in check_images():
    ours = _ours(model, images)
    for name, values in run(images, images.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32)).items():
      largest = float(np.abs(values - np.asarray(ours[name])).max())
      found.append(Difference(name, images.shape[1], images.shape[2], largest))
      if not largest <= LARGEST_DIFFERENCE:
        raise UserError(f"{name} at {images.shape[2]}x{images.shape[1]} differs by {largest:.2g} from the model's")
  return found


@jax.jit
def _ours(model: Model, images: jax.Array) -> dict[str, jax.Array]:
  """The model's result, and the image before noise removal."""
  folded = fold(model)
  output = run_folded(folded.network, folded.convolutions, images)
  return {"result": output.image, "illuminated": output.u[-1]}


def check_images() -> Iterator[np.ndarray]:
  """For each size two images, float32 `[2, H, W, 3]`: random numbers, and a part of a darkened photograph."""
  from skimage.data import coffee

  photograph, rng = (coffee() / np.float32(255)) ** 2.2 * 0.15, np.random.default_rng(0)
  for height, width in SIZES:
    noise = rng.random((height, width, 3), np.float32) * 0.3
    yield np.stack([noise, photograph[:height, :width].astype(np.float32)])
