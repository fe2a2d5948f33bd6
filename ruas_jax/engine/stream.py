"""Batches in a seeded order, read ahead in background threads (grain)."""

import functools
import sys
from typing import TYPE_CHECKING

import numpy as np

from ruas_jax.engine.sources import Source

if TYPE_CHECKING:
  import grain

_READING_THREADS = 4


class Order:
  """The endless order of visits: entry k is the index of the k-th element; every epoch is a new permutation."""

  def __init__(self, count: int, *, seed: int):
    self._count, self._seed = count, seed

  def __getitem__(self, visit: int) -> int:
    epoch, position = divmod(visit, self._count)
    return int(_permutation(self._count, self._seed, epoch)[position])


@functools.lru_cache(maxsize=64)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
  return np.random.default_rng((seed, epoch)).permutation(count)


def make_batches(
  source: Source, *, batch_size: int, seed: int, first: int = 0, rows: range | None = None
) -> "grain.DatasetIterator":
  """An endless iterator of batches, elements stacked along a leading axis, in the `Order` of `seed`.

  A batch may reach over the end of an epoch, so no element is dropped.

  Args:
    source: at least one element.
    batch_size: may exceed the number of elements; then a batch holds an element more than once.
    seed: of the order, not negative.
    first: batches that are left out at the beginning, without reading them.
    rows: of every batch, those to read, where other hosts read the rest; None: all.

  Returns:
    A grain iterator: besides `next`, `get_state()` is a small JSON-able dict, `set_state(state)` continues from there
    and `close()` ends its threads. The state counts elements, so it outlives a change of the batch size.

  Raises:
    UserError: from `next`, an element that cannot be read.
  """
  import grain  # a second to load, and only streams need it

  rows = range(batch_size) if rows is None else rows
  order = Order(len(source), seed=seed)

  def load(visit):
    batch, row = divmod(visit, len(rows))
    return source[order[batch * batch_size + rows[row]]]

  # Prefetching single elements, not batches, lets the threads share the work of one batch.
  ahead = grain.ReadOptions(num_threads=_READING_THREADS, prefetch_buffer_size=len(rows) + _READING_THREADS)
  elements = grain.MapDataset.range(first * len(rows), sys.maxsize).map(load).to_iter_dataset(ahead)
  return iter(elements.batch(len(rows)))
