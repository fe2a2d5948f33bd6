"""Measuring how long the network of a configuration takes on this device, by the operations of its cells."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.engine.compiler import compiler_options
from ruas_jax.engine.environment import device_in_words, versions
from ruas_jax.engine.progress import progress
from ruas_jax.lowlight.cell import PAIRS
from ruas_jax.lowlight.cost import CellCost, NetworkCost
from ruas_jax.lowlight.genotype import CELLS, Genotype
from ruas_jax.lowlight.latency import latency_record
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.operations import CANDIDATES, Operation, operation_names, own_taps
from ruas_jax.lowlight.options import NetworkOptions


def measure_latency(
  network: NetworkOptions,
  *,
  height: int = 400,
  width: int = 600,
  repeats: int = 10,
  operations: tuple[Operation, ...] = CANDIDATES,
) -> dict[str, Any]:
  """The content of a table of latency (`lowlight.latency`) of this device for images of this size.

  A folded operation is known by its taps. For each module, one network is timed for every combination of taps on a
  distill and a remain edge, on all three pairs at once; and one for the taps of the last edge. The differences from the
  first network are the costs of edges and pairs, so the sum has those times again. All networks take turns; each time
  is the fastest of `repeats`.
  """
  names = operation_names(operations)
  groups = {cell: _alike(operations, getattr(build_network(network), cell).cell.channels) for cell in CELLS}
  timed = [(cell, edges) for cell in CELLS for edges in _timed(sorted(set(groups[cell])), names)]
  programs = {}
  with progress(len(timed), "compile") as bar:
    for cell, edges in timed:
      programs[cell, edges] = _forward(network, operations, cell, edges, height, width)
      bar.update(len(programs))
  seconds = fastest_seconds(programs, repeats)
  cells = {cell: _cell_cost(groups[cell], names, lambda edges, cell=cell: seconds[cell, edges]) for cell in CELLS}
  about = {"device": device_in_words(), "versions": versions(), "size": [height, width], "repeats": repeats}
  return latency_record(NetworkCost(cells, names), network, about)


def _alike(operations: tuple[Operation, ...], channels: int) -> list[int]:
  """For each operation the index of the first one with the same taps."""
  taps = list(own_taps(operations, channels).values())
  return [taps.index(one) for one in taps]


def _edges(names: tuple[str, ...], distill: int, remain: int, last: int) -> tuple[str, ...]:
  return (names[distill], names[remain]) * PAIRS + (names[last],)


def _timed(kinds: list[int], names: tuple[str, ...]) -> list[tuple[str, ...]]:
  """The operations of the networks that are timed."""
  first = kinds[0]
  pairs = [_edges(names, distill, remain, first) for distill in kinds for remain in kinds]
  return pairs + [_edges(names, first, first, last) for last in kinds[1:]]


def _cell_cost(groups: list[int], names: tuple[str, ...], seconds: Callable[[tuple[str, ...]], float]) -> CellCost:
  """The cost of a module from the seconds of the networks in `_timed`."""
  first = groups[0]
  fixed = seconds(_edges(names, first, first, first))
  edge = np.array([seconds(_edges(names, first, first, last)) - fixed for last in groups])
  whole = np.array([[seconds(_edges(names, one, other, first)) for other in groups] for one in groups])
  return CellCost(edge, (whole - fixed) / PAIRS - edge[:, None] - edge, fixed)


def _forward(
  network: NetworkOptions, operations: tuple[Operation, ...], name: str, edges: tuple[str, ...], height: int, width: int
) -> Callable[[], Any]:
  """A call of a module with these operations on its edges, compiled, with random weights, on a grey image."""
  module = getattr(build_network(network, Genotype(edges, edges), operations), name)
  folded = jax.jit(lambda key: module.fold(module.init(key), None))(jax.random.key(0))
  image = jnp.full((1, height, width, 3), 0.2)
  images = (image,) if name == "illumination" else (image, image)

  def result(folded, *images):
    found = module.run(folded, *images)
    return found.result if name == "illumination" else found

  run = jax.jit(result, compiler_options=compiler_options()).lower(folded, *images).compile()
  run(folded, *images).block_until_ready()
  return lambda: run(folded, *images).block_until_ready()


def fastest_seconds(programs: dict[Any, Callable[[], Any]], repeats: int) -> dict[Any, float]:
  """The fastest of the times of calls that take turns, which other processes disturb least. Each is called twice in its
  turn, since the first call finds another one's memory."""
  seconds = {name: [] for name in programs}
  for _ in range(repeats):
    for name, call in programs.items():
      call()
      start = time.perf_counter()
      call()
      seconds[name].append(time.perf_counter() - start)
  return {name: min(values) for name, values in seconds.items()}
