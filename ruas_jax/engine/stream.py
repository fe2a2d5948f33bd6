"""Batches in a random order, read ahead by grain in background threads."""

import functools
import sys
from typing import TYPE_CHECKING

import numpy as np

from ruas_jax.engine.sources import Source

if TYPE_CHECKING:
  import grain

_READING_THREADS = 4


class Order:
  """The endless order of elements: entry k is the index of the k-th element; every epoch is a new permutation."""

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
  """An endless iterator of batches in the `Order` of `seed`. Elements are stacked along a leading axis.

  A batch may continue into the next epoch, so no element is dropped.

  Args:
    source: source with at least one element.
    batch_size: may be larger than the number of elements; then a batch holds elements more than once.
    seed: random seed of the order, at least 0.
    first: number of batches to skip at the beginning, without reading them.
    rows: rows of every batch to read, if other hosts read the others; None: all.

  Returns:
    A grain iterator. `get_state()` returns a small JSON object, `set_state(state)` continues from it, and `close()`
    stops the threads. The state counts elements, so it stays valid if the batch size changes.

  Raises:
    UserError: raised by `next` if an element cannot be read.
  """
  import grain  # takes a second to import, and only streams need it

  rows = range(batch_size) if rows is None else rows
  order = Order(len(source), seed=seed)

  def load(visit):
    batch, row = divmod(visit, len(rows))
    return source[order[batch * batch_size + rows[row]]]

  # Prefetches single elements, not batches, so that all threads work on one batch.
  ahead = grain.ReadOptions(num_threads=_READING_THREADS, prefetch_buffer_size=len(rows) + _READING_THREADS)
  elements = grain.MapDataset.range(first * len(rows), sys.maxsize).map(load).to_iter_dataset(ahead)
  return iter(elements.batch(len(rows)))
