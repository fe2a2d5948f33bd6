"""Photographs as elements of a run, padded to one shape, so that all sizes share one compiled program.

An element is `{"image": uint8 [H, W, 3], "size": int32 [2]}`. H and W are the largest of the source. Smaller
photographs are padded with zeros at the bottom and right, and "size" is their (height, width). Crops are taken inside
the step (`crops.random_crops`).
"""

import jax
import numpy as np

from ruas_jax.data.sources import ImageSource, Subset
from ruas_jax.engine.sources import Part, read_each
from ruas_jax.errors import UserError


class PaddedImages:
  """The images of a source as elements. Two objects with the same source are equal, so that they share device
  memory."""

  def __init__(self, images: ImageSource):
    self.images = images
    self._sizes = np.array(images.sizes(), np.int32)

  def __eq__(self, other: object) -> bool:
    return isinstance(other, PaddedImages) and self.images is other.images

  def __hash__(self) -> int:
    return id(self.images)

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    image, size = self.images[index], self._sizes[index]
    if image.shape[:2] != tuple(size):
      raise UserError(
        f"image {self.images.names[index]} changed its size after the data were opened; start the command again"
      )
    padded = np.zeros(self.spec()["image"].shape, np.uint8)
    padded[: image.shape[0], : image.shape[1]] = image
    return {"image": padded, "size": size}

  def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of an element."""
    shape = (*self._sizes.max(axis=0).tolist(), 3)
    return {"image": jax.ShapeDtypeStruct(shape, np.uint8), "size": jax.ShapeDtypeStruct((2,), np.int32)}

  def check(self) -> None:
    """Decodes every image once, so that a damaged one cannot stop a long run in the middle.

    Raises:
      UserError: one line for each image that cannot be read.
    """
    read_each(self, range(len(self)))


def padded(source: ImageSource) -> PaddedImages | Part:
  """The images as elements of a run. Subsets of one source share its device memory."""
  indices = np.arange(len(source))
  while isinstance(source, Subset):
    source, indices = source.source, np.asarray(source.indices)[indices]
  images = PaddedImages(source)
  return images if len(indices) == len(source) and (np.diff(indices) == 1).all() else Part(images, indices)


def check_crop(source: ImageSource, crop: int) -> None:
  """Raises UserError for the first image that is smaller than the crop."""
  for name, (height, width) in zip(source.names, source.sizes(), strict=True):
    if min(height, width) < crop:
      raise UserError(
        f"image {name} is {width}x{height}, smaller than the crop of {crop}x{crop}; use a smaller `data.crop`"
      )
