"""What a loop on the device reads: indices of images that lie on the device too, or whole batches that are streamed.

Both give the same batches for the same seed, those of `pipeline.make_batches`. An *element* is what one step reads;
`read` delivers many of them at once, stacked, and `fetch`, a pure function, turns one into batches inside the program.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ruas_jax.data.options import Placement
from ruas_jax.data.pipeline import ImageOrder, check_crop, check_images, decode_each, make_batches
from ruas_jax.data.sources import ImageSource, Subset
from ruas_jax.errors import UserError

Batch = dict[str, jax.Array]

MOST_STEPS = 100  # in one call of the program
_DEVICE_BYTES = 2**30  # of images that are put on the device unasked
_STREAM_BYTES = 2**26  # of batches in one call


class Reading(NamedTuple):
  """An endless sequence of batches.

  Attributes:
    source: the images.
    shape: leading axes of a batch's arrays; their product counts its images.
    seed: of the order.
  """

  source: ImageSource
  shape: tuple[int, ...]
  seed: int


class DeviceImages:
  """The images that `sources` show, uint8 on the device; each is decoded once, however many sources show it.

  Attributes:
    pools: `{"image": [N, H, W, 3], "size": [N, 2]}` for each of the sources that lie under the subsets; smaller images
      are filled up with zeros, as in `pipeline`.

  Raises:
    UserError: as `decode_each`, or they do not fit on the device.
  """

  def __init__(self, sources: Sequence[ImageSource]):
    self._bases = _shown(sources)
    try:
      self.pools = _put(self._bases)
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
      reason = next(iter(str(error).splitlines()), "out of memory")
      raise UserError(f"data.placement device: the images do not fit on the device ({reason})") from None

  def locate(self, source: ImageSource) -> tuple[int, np.ndarray]:
    """Which pool shows this source, and where in it each of the source's images lies."""
    base, indices = _base(source)
    place = next(place for place, (other, _) in enumerate(self._bases) if other is base)
    return place, np.searchsorted(self._bases[place][1], indices).astype(np.int32)


class DeviceFeed:
  """Elements are image numbers, int32; the images are an argument of the program."""

  capacity = MOST_STEPS
  streams = False

  def __init__(self, readings: Sequence[Reading], images: DeviceImages):
    self.images = images.pools
    self.batch_axes = _batch_axes(readings)
    self._shapes = [reading.shape for reading in readings]
    self._orders = [ImageOrder(len(reading.source), seed=reading.seed) for reading in readings]
    self._places, self._numbers = zip(*(images.locate(reading.source) for reading in readings), strict=True)
    self._first = 0

  def fetch(self, images: Any, element: Any) -> tuple[Batch, ...]:
    """A batch for each reading, `{"image": uint8 [*shape, H, W, 3], "size": int32 [*shape, 2]}`."""
    return tuple(
      {name: values[numbers] for name, values in images[place].items()}
      for place, numbers in zip(self._places, element, strict=True)
    )

  def read(self, count: int) -> tuple[np.ndarray, ...]:
    """Elements of the next `count` steps, `[capacity, *shape]` for each reading; the rest is unused."""
    elements = []
    for shape, order, numbers in zip(self._shapes, self._orders, self._numbers, strict=True):
      size = math.prod(shape)
      visits = range(self._first * size, (self._first + count) * size)
      element = np.zeros((self.capacity, *shape), np.int32)
      element[:count] = numbers[[order[visit] for visit in visits]].reshape(count, *shape)
      elements.append(element)
    self._first += count
    return tuple(elements)

  def seek(self, step: int) -> None:
    """The next element is what this step reads, counted from zero."""
    self._first = step

  def close(self) -> None:
    """Nothing runs in the background."""


class PopulationFeed:
  """Feeds of many members over the same images; elements are `[capacity, P, ...]`."""

  streams = False

  def __init__(self, feeds: Sequence[DeviceFeed]):
    self._feeds = feeds
    self.images, self.capacity, self.fetch = feeds[0].images, feeds[0].capacity, feeds[0].fetch
    self.batch_axes = feeds[0].batch_axes

  def read(self, count: int) -> tuple[np.ndarray, ...]:
    """As of the members, stacked."""
    return jax.tree.map(lambda *members: np.stack(members, axis=1), *(feed.read(count) for feed in self._feeds))

  def seek(self, step: int) -> None:
    """As of the members."""
    for feed in self._feeds:
      feed.seek(step)

  def close(self) -> None:
    """Nothing runs in the background."""


class StreamFeed:
  """Elements are the batches themselves, read ahead by grain, as many in a call as a bounded memory holds.

  Of every batch only `rows` are read, the part of the last axis of its shape whose devices this host has.
  """

  images = ()
  streams = True

  def __init__(self, readings: Sequence[Reading], rows: range | None = None):
    self.batch_axes = _batch_axes(readings)
    self._readings, self._rows = readings, rows
    self._shapes = [(*reading.shape[:-1], len(rows or range(reading.shape[-1]))) for reading in readings]
    self._streams: list = []
    sizes = [math.prod(reading.shape) * 3 * math.prod(np.max(reading.source.sizes(), axis=0)) for reading in readings]
    self.capacity = int(np.clip(_STREAM_BYTES // sum(sizes), 1, MOST_STEPS))
    self.seek(0)

  def fetch(self, images: Any, element: Any) -> tuple[Batch, ...]:
    """As of the other feed."""
    del images
    return element

  def read(self, count: int) -> tuple[dict[str, np.ndarray], ...]:
    """As of the other feed."""
    elements = []
    for shape, stream in zip(self._shapes, self._streams, strict=True):
      batches = [next(stream) for _ in range(count * math.prod(shape[:-1]))]
      element = {}
      for name, values in batches[0].items():
        element[name] = np.empty((self.capacity, *shape, *values.shape[1:]), values.dtype)
        np.stack([batch[name] for batch in batches], out=element[name][:count].reshape(-1, *values.shape))
      elements.append(element)
    return tuple(elements)

  def seek(self, step: int) -> None:
    """As of the other feed."""
    self.close()
    self._streams = [
      make_batches(
        reading.source,
        batch_size=reading.shape[-1],
        seed=reading.seed,
        first=step * math.prod(reading.shape[:-1]),
        rows=self._rows,
      )
      for reading in self._readings
    ]

  def close(self) -> None:
    """Ends the reading threads."""
    for stream in self._streams:
      stream.close()


Feed = DeviceFeed | PopulationFeed | StreamFeed


def open_feed(
  readings: Sequence[Reading], *, crop: int, placement: Placement, rows: range | None = None
) -> DeviceFeed | StreamFeed:
  """The feed of these readings; every image has then been decoded once.

  Args:
    readings: one for each batch of a step.
    crop: that every image must hold.
    placement: auto puts the images on the device if all fit into 1 GiB.
    rows: of every batch, those that this host streams; none: all. A host that has the images on its devices reads them
      all, since any crop may be any device's.

  Raises:
    UserError: an image is too small or cannot be read, or the images do not fit on the device.
  """
  sources = [reading.source for reading in readings]
  for source in sources:
    check_crop(source, crop)
  if placement == "device" or (placement == "auto" and _device_bytes(sources) <= _DEVICE_BYTES):
    return DeviceFeed(readings, DeviceImages(sources))
  check_images(sources, crop)
  return StreamFeed(readings, rows)


def open_population_feed(members: Sequence[Sequence[Reading]], *, crop: int, placement: Placement) -> PopulationFeed:
  """The feed of a population: the readings of each member, in the same order over the same images.

  Raises:
    UserError: as `open_feed`, or the images cannot lie on the device, which a population needs.
  """
  sources = [reading.source for readings in members for reading in readings]
  for source in sources:
    check_crop(source, crop)
  if placement == "stream":
    raise UserError("data.placement stream: a population needs its images on the device")
  if placement == "auto" and (total := _device_bytes(sources)) > _DEVICE_BYTES:
    raise UserError(
      f"data: a population needs its images on the device, where they take {total / 2**30:.1f} GiB; "
      "--data.placement device puts them there all the same"
    )
  images = DeviceImages(sources)
  return PopulationFeed([DeviceFeed(readings, images) for readings in members])


def _batch_axes(readings: Sequence[Reading]) -> tuple[int, ...]:
  """Which axis of each batch counts the images that devices may share out."""
  return tuple(len(reading.shape) - 1 for reading in readings)


def _device_bytes(sources: Sequence[ImageSource]) -> int:
  """What `DeviceImages` takes."""
  return sum(len(indices) * 3 * math.prod(_largest(base, indices)) for base, indices in _shown(sources))


def _largest(base: ImageSource, indices: np.ndarray) -> tuple[int, int]:
  """The height and the width that have room for each of these images."""
  return tuple(np.array(base.sizes())[indices].max(axis=0).tolist())


def _base(source: ImageSource) -> tuple[ImageSource, np.ndarray]:
  """The source under all subsets, and the indices of `source`'s images in it."""
  indices = np.arange(len(source))
  while isinstance(source, Subset):
    source, indices = source.source, np.asarray(source.indices)[indices]
  return source, indices


def _shown(sources: Sequence[ImageSource]) -> list[tuple[ImageSource, np.ndarray]]:
  """Each source under `sources` once, with the indices that any of them shows, sorted."""
  bases: dict[int, tuple[ImageSource, np.ndarray]] = {}
  for source in sources:
    base, indices = _base(source)
    bases[id(base)] = (base, np.union1d(bases.get(id(base), (base, indices))[1], indices))
  return list(bases.values())


def _put(bases: Sequence[tuple[ImageSource, np.ndarray]]) -> tuple[Batch, ...]:
  pools = []
  for base, indices in bases:
    images = np.zeros((len(indices), *_largest(base, indices), 3), np.uint8)
    pools.append({"image": images, "size": np.array(base.sizes(), np.int32)[indices]})
  for part, place, image in decode_each((base, indices.tolist()) for base, indices in bases):
    pools[part]["image"][place, : image.shape[0], : image.shape[1]] = image
  return tuple(jax.device_put(pools))
