"""The input of a loop on the device: indices of elements that are in device memory, or whole batches that are streamed.

Both give the same batches for the same seed, those of `stream.make_batches`. The input of one step is a *ticket*.
`read` returns the tickets of many steps, stacked. `fetch` is a pure function that turns a ticket into batches in the
program.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ruas_jax.engine.run_options import Placement
from ruas_jax.engine.sources import PyTree, Source, all_failures, base_of, element_bytes, stack
from ruas_jax.engine.stream import Order, make_batches
from ruas_jax.errors import UserError

MOST_STEPS = 100  # in one call of the program
_DEVICE_BYTES = 2**30  # largest data that "auto" puts into device memory
_STREAM_BYTES = 2**26  # size of the batches of one call


class Reading(NamedTuple):
  """An endless sequence of batches.

  Attributes:
    source: source of the elements.
    shape: leading axes of a batch's arrays; their product is the number of elements in a batch.
    seed: random seed of the order.
  """

  source: Source
  shape: tuple[int, ...]
  seed: int


class DeviceData:
  """The elements of `sources` in device memory. An element that several sources share is read and stored once.

  Attributes:
    pools: for each base source (`engine.sources.base_of`), its elements along a leading axis.

  Raises:
    UserError: an element cannot be read, or the data do not fit into device memory.
  """

  def __init__(self, sources: Sequence[Source]):
    self._bases = _shown(sources)
    pools = []
    with all_failures() as attempt:
      for base, indices in self._bases:
        attempt(lambda base=base, indices=indices: pools.append(stack(base, indices)))
    try:
      self.pools = tuple(jax.device_put(pools))
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
      reason = next(iter(str(error).splitlines()), "out of memory")
      raise UserError(
        f"`data.placement` 'device': the data do not fit into device memory ({reason}); use 'stream'"
      ) from None

  def locate(self, source: Source) -> tuple[int, np.ndarray]:
    """The pool that holds this source, and the index in it of each of the source's elements."""
    base, indices = base_of(source)
    pool = next(pool for pool, (other, _) in enumerate(self._bases) if other == base)
    return pool, np.searchsorted(self._bases[pool][1], indices).astype(np.int32)


class DeviceFeed:
  """Tickets are indices of elements, int32. The data are an argument of the program.

  Attributes:
    pools: for each reading, which of the data it reads.
  """

  capacity = MOST_STEPS
  streams = False

  def __init__(self, readings: Sequence[Reading], data: DeviceData):
    self._device_data, self.data = data, data.pools
    self.batch_axes = _batch_axes(readings)
    self._shapes = [reading.shape for reading in readings]
    self._orders = [Order(len(reading.source), seed=reading.seed) for reading in readings]
    self.pools, self._numbers = zip(*(data.locate(reading.source) for reading in readings), strict=True)
    self._first = 0

  def fetch(self, data: Any, ticket: Any) -> tuple[PyTree, ...]:
    """A batch for each reading, every leaf `[*shape, ...]`."""
    return tuple(
      jax.tree.map(lambda leaf, numbers=numbers: leaf[numbers], data[pool])
      for pool, numbers in zip(self.pools, ticket, strict=True)
    )

  def read(self, count: int) -> tuple[np.ndarray, ...]:
    """Tickets of the next `count` steps, `[capacity, *shape]` for each reading; the other rows are unused."""
    tickets = []
    for shape, order, numbers in zip(self._shapes, self._orders, self._numbers, strict=True):
      size = math.prod(shape)
      visits = range(self._first * size, (self._first + count) * size)
      ticket = np.zeros((self.capacity, *shape), np.int32)
      ticket[:count] = numbers[[order[visit] for visit in visits]].reshape(count, *shape)
      tickets.append(ticket)
    self._first += count
    return tuple(tickets)

  def beside(self, readings: Sequence[Reading]) -> "DeviceFeed":
    """A feed of other readings over the same data, which must hold their elements."""
    return DeviceFeed(readings, self._device_data)

  def seek(self, step: int) -> None:
    """Sets the step of the next ticket, counted from zero."""
    self._first = step

  def close(self) -> None:
    """Does nothing: no thread is running."""


class PopulationFeed:
  """The feeds of all members over the same data. Tickets are `[capacity, P, ...]`."""

  streams = False

  def __init__(self, feeds: Sequence[DeviceFeed]):
    self._feeds = feeds
    self.data, self.capacity, self.fetch, self.pools = feeds[0].data, feeds[0].capacity, feeds[0].fetch, feeds[0].pools
    self.batch_axes = feeds[0].batch_axes

  def read(self, count: int) -> tuple[np.ndarray, ...]:
    """The tickets of all members, stacked."""
    return jax.tree.map(lambda *members: np.stack(members, axis=1), *(feed.read(count) for feed in self._feeds))

  def beside(self, members: Sequence[Sequence[Reading]]) -> "PopulationFeed":
    """A feed of other readings of each member, as `DeviceFeed.beside`."""
    return PopulationFeed([feed.beside(readings) for feed, readings in zip(self._feeds, members, strict=True)])

  def seek(self, step: int) -> None:
    """Sets the step of the next tickets, counted from zero."""
    for feed in self._feeds:
      feed.seek(step)

  def close(self) -> None:
    """Does nothing: no thread is running."""


class StreamFeed:
  """Tickets are the batches themselves, read ahead by grain. The size of a call's batches is limited.

  Only `rows` of every batch are read: the part of the last batch axis that belongs to this host's devices.
  """

  data = pools = ()
  streams = True

  def __init__(self, readings: Sequence[Reading], rows: range | None = None):
    self.batch_axes = _batch_axes(readings)
    self._readings, self._rows = readings, rows
    self._shapes = [(*reading.shape[:-1], len(rows or range(reading.shape[-1]))) for reading in readings]
    self._streams: list = []
    sizes = [math.prod(reading.shape) * element_bytes(reading.source) for reading in readings]
    self.capacity = int(np.clip(_STREAM_BYTES // sum(sizes), 1, MOST_STEPS))
    self.seek(0)

  def fetch(self, data: Any, ticket: Any) -> tuple[PyTree, ...]:
    """Returns the ticket."""
    del data
    return ticket

  def read(self, count: int) -> tuple[PyTree, ...]:
    """Tickets of the next `count` steps, every leaf `[capacity, *shape, ...]`; the other rows are unused."""
    tickets = []
    for shape, stream in zip(self._shapes, self._streams, strict=True):
      batches = [next(stream) for _ in range(count * math.prod(shape[:-1]))]

      def joined(*leaves, shape=shape):
        ticket = np.empty((self.capacity, *shape, *leaves[0].shape[1:]), leaves[0].dtype)
        np.stack(leaves, out=ticket[:count].reshape(-1, *leaves[0].shape))
        return ticket

      tickets.append(jax.tree.map(joined, *batches))
    return tuple(tickets)

  def seek(self, step: int) -> None:
    """Sets the step of the next ticket, counted from zero."""
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
    """Stops the reading threads."""
    for stream in self._streams:
      stream.close()


Feed = DeviceFeed | PopulationFeed | StreamFeed


def open_feed(
  readings: Sequence[Reading], *, placement: Placement = "auto", rows: range | None = None
) -> DeviceFeed | StreamFeed:
  """The feed for these readings.

  Args:
    readings: one for each batch of a step.
    placement: device: all elements are in device memory. stream: batches are read ahead. auto: device, up to 1 GiB.
    rows: rows of every batch that this host streams; None: all. With the data in device memory every host reads all
      elements, because any device may need any of them.

  Raises:
    UserError: an element cannot be read, or the data do not fit into device memory.
  """
  sources = [reading.source for reading in readings]
  if placement == "device" or (placement == "auto" and _device_bytes(sources) <= _DEVICE_BYTES):
    return DeviceFeed(readings, DeviceData(sources))
  with all_failures() as attempt:
    for source in sources:
      attempt(getattr(source, "check", lambda: None))
  return StreamFeed(readings, rows)


def open_population_feed(members: Sequence[Sequence[Reading]], *, placement: Placement = "auto") -> PopulationFeed:
  """The feed of a population: the readings of each member, in the same order over the same data.

  Raises:
    UserError: as `open_feed`; or the data are not in device memory, which a population needs.
  """
  sources = [reading.source for readings in members for reading in readings]
  if placement == "stream":
    raise UserError("a population needs its data in device memory; set `data.placement` to 'device', not 'stream'")
  if placement == "auto" and (total := _device_bytes(sources)) > _DEVICE_BYTES:
    raise UserError(
      f"a population needs its data in device memory, and they take {total / 2**30:.1f} GiB; use less data, or set "
      "`data.placement` to 'device' to put them there anyway"
    )
  data = DeviceData(sources)
  return PopulationFeed([DeviceFeed(readings, data) for readings in members])


def _batch_axes(readings: Sequence[Reading]) -> tuple[int, ...]:
  """For each batch, the axis of its elements, which may be divided over devices."""
  return tuple(len(reading.shape) - 1 for reading in readings)


def _device_bytes(sources: Sequence[Source]) -> int:
  """Size of the `DeviceData` of these sources."""
  return sum(len(indices) * element_bytes(base) for base, indices in _shown(sources))


def _shown(sources: Sequence[Source]) -> list[tuple[Source, np.ndarray]]:
  """Each base source once, with the sorted indices that any of the sources uses."""
  bases: list[tuple[Source, np.ndarray]] = []
  for source in sources:
    base, indices = base_of(source)
    known = next((number for number, (other, _) in enumerate(bases) if other == base), None)
    if known is None:
      bases.append((base, np.unique(indices)))
    else:
      bases[known] = (base, np.union1d(bases[known][1], indices))
  return bases
