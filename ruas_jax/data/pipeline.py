"""From a source to batches of whole images in a seeded order, decoded ahead in background threads (grain).

A batch is `{"image": uint8 [B, H, W, 3], "size": int32 [B, 2]}`. H and W are the largest in the source; smaller images
are padded with zeros at the bottom and right, so that one compiled program serves all; "size" keeps (height, width).
Crops are drawn in the jitted step (`crops.random_crops`), not here, so what feeds that step does not change its result.
"""

import functools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ruas_jax.data.sources import ImageSource
from ruas_jax.errors import UserError

if TYPE_CHECKING:
  import grain

_DECODING_THREADS = 4


class ImageOrder:
  """The endless order of visits: element k is the index of the k-th image; every epoch is a new permutation.

  `make_batches` follows it, and so does a loop that keeps all images on the device.
  """

  def __init__(self, count: int, *, seed: int):
    self._count, self._seed = count, seed

  def __getitem__(self, visit: int) -> int:
    epoch, place = divmod(visit, self._count)
    return int(_permutation(self._count, self._seed, epoch)[place])


@functools.lru_cache(maxsize=64)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
  return np.random.default_rng((seed, epoch)).permutation(count)


def make_batches(
  source: ImageSource, *, batch_size: int, seed: int, first: int = 0, rows: range | None = None
) -> "grain.DatasetIterator":
  """An endless iterator of batches; a batch may reach over the end of an epoch, so no image is dropped.

  Args:
    source: at least one image.
    batch_size: may exceed the number of images; then a batch holds an image more than once.
    seed: of the order, not negative.
    first: batches that are left out at the beginning, without reading them.
    rows: of every batch, those to read, where other hosts read the rest; none: all.

  Returns:
    A grain iterator: besides `next`, `get_state()` is a small JSON-able dict, `set_state(state)` continues from there
    and `close()` ends its threads. The state counts images, so it outlives a change of the batch size.

  Raises:
    UserError: from `next`, an image that cannot be read or whose size is not what its header said.
  """
  import grain  # a second to load, and only streams need it

  sizes = source.sizes()
  height, width = np.max(sizes, axis=0)
  rows = range(batch_size) if rows is None else rows

  def load(visit):
    batch, place = divmod(visit, len(rows))
    index = order[batch * batch_size + rows[place]]
    image = _load(source, index, sizes[index])
    padded = np.zeros((height, width, 3), np.uint8)
    padded[: image.shape[0], : image.shape[1]] = image
    return {"image": padded, "size": np.array(sizes[index], np.int32)}

  # Prefetching single images, not batches, lets the threads share the work of one batch.
  ahead = grain.ReadOptions(num_threads=_DECODING_THREADS, prefetch_buffer_size=len(rows) + _DECODING_THREADS)
  order = ImageOrder(len(source), seed=seed)
  images = grain.MapDataset.range(first * len(rows), sys.maxsize).map(load).to_iter_dataset(ahead)
  return iter(images.batch(len(rows)))


def check_images(sources: Sequence[ImageSource], crop: int) -> None:
  """`check_crop`, then decodes every image once, so that a long run does not meet a damaged one in its middle.

  Raises:
    UserError: one line for each image that cannot be read.
  """
  for source in sources:
    check_crop(source, crop)
  for _ in decode_each((source, range(len(source))) for source in sources):
    pass


def decode_each(parts: Iterable[tuple[ImageSource, Sequence[int]]]) -> Iterator[tuple[int, int, np.ndarray]]:
  """The images of each source at its indices: `(number of the part, place in it, image)`, one after the other.

  Raises:
    UserError: when the others have been delivered, one line for each image that cannot be read.
  """
  failures = []
  for part, (source, indices) in enumerate(parts):
    sizes = source.sizes()
    for place, index in enumerate(indices):
      try:
        image = _load(source, index, sizes[index])
      except UserError as error:
        failures.append(str(error))
      else:
        yield part, place, image
  if failures:
    raise UserError("\n".join(failures))


def _load(source: ImageSource, index: int, size: tuple[int, int]) -> np.ndarray:
  image = source[index]
  if image.shape[:2] != size:
    raise UserError(f"image {source.names[index]} changed its size since the data was opened")
  return image


def check_crop(source: ImageSource, crop: int) -> None:
  """Raises UserError naming the first image that is smaller than the crop."""
  for name, (height, width) in zip(source.names, source.sizes(), strict=True):
    if min(height, width) < crop:
      raise UserError(f"image {name} is {width}x{height}, smaller than the crop of {crop}x{crop}")
