"""The cost of a network as a function of its genotype, and the expected cost of the supernet's mixing weights.

A cost is a sum over edges, and of what a pair of edges that read one node has together:

    cost = sum over cells of (fixed + sum over edges of edge[o_e] + sum over pairs of pair[o_distill, o_remain])

The expected cost is the same sum with o drawn from the mixing weights, each edge for itself. So it is the cost of a
genotype where the mixing weights are one-hot, and it is differentiable.

- parameters: as `Network.parameters` counts them.
- macs: multiply-accumulates of the folded network for one pixel (`count_folded_macs`): the taps that are alive decide.
- latency: seconds of a forward pass, from a table that `ruas latency` measures on a device.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.lowlight.cell import PAIRS
from ruas_jax.lowlight.genotype import CELLS, EDGES, Genotype
from ruas_jax.lowlight.network import Network, build_network, count_folded_macs, count_parameters
from ruas_jax.lowlight.operations import CANDIDATES, Operation, live_taps, operation_names
from ruas_jax.lowlight.options import NetworkOptions


class CellCost(NamedTuple):
  """The cost of a module by the operations of its cell.

  Attributes:
    edge: `[O]`, of an operation on any edge.
    pair: `[O, O]`, of the operations of a distill and a remain edge that read one node, in addition.
    fixed: of everything else.
  """

  edge: np.ndarray
  pair: np.ndarray
  fixed: float


class NetworkCost(NamedTuple):
  """A cost.

  Attributes:
    cells: cost of each module, by its name.
    names: names of the O operations.
  """

  cells: dict[str, CellCost]
  names: tuple[str, ...]

  def of(self, genotype: Genotype) -> float:
    """The cost of a genotype's network."""
    total = 0.0
    for name, cell in self.cells.items():
      chosen = [self.names.index(operation) for operation in getattr(genotype, name)]
      distill, remain = chosen[0 : 2 * PAIRS : 2], chosen[1 : 2 * PAIRS : 2]
      total += cell.fixed + cell.edge[chosen].sum().item() + cell.pair[distill, remain].sum().item()
    return total

  def expected(self, shares: Mapping[str, jax.Array]) -> jax.Array:
    """The expected cost, `[]`, for the mixing weights `[E, O]` of each module."""
    total = jnp.zeros((), jnp.result_type(*shares.values()))
    for name, cell in self.cells.items():
      of_cell, edge, pair = shares[name], *(jnp.asarray(part, total.dtype) for part in cell[:2])
      distill, remain = of_cell[0 : 2 * PAIRS : 2], of_cell[1 : 2 * PAIRS : 2]
      together = jnp.sum(distill[:, :, None] * remain[:, None, :] * pair[None])
      total += cell.fixed + jnp.sum(of_cell * edge[None]) + together
    return total

  @property
  def largest(self) -> float:
    """The cost of the most expensive genotype."""
    cells = {}
    for name, cell in self.cells.items():
      pair = np.unravel_index(np.argmax(cell.edge[:, None] + cell.edge + cell.pair), cell.pair.shape)
      cells[name] = tuple(self.names[index] for index in (*pair * PAIRS, np.argmax(cell.edge)))
    return self.of(Genotype(**cells))

  def relative(self, shares: Mapping[str, jax.Array]) -> jax.Array:
    """`expected` as a share of `largest`."""
    return self.expected(shares) / self.largest


def parameter_cost(options: NetworkOptions, operations: tuple[Operation, ...] = CANDIDATES) -> NetworkCost:
  """The number of parameters."""

  def of_edges(module) -> list[int]:
    channels, sets = module.cell.channels, 1 if module.options.share_weights else module.options.stages
    shapes = (operation.weight_shape and operation.weight_shape(channels) for operation in operations)
    return [sets * (math.prod(shape) + channels) if shape else 0 for shape in shapes]

  def of_module(network: Network, name: str) -> int:
    return count_parameters(network.weight_shapes()[name])

  return _sum_over_edges(options, operations, of_edges, of_module)


def mac_cost(options: NetworkOptions, operations: tuple[Operation, ...] = CANDIDATES) -> NetworkCost:
  """The multiply-accumulates of both modules in their folded form, for one pixel."""

  def of_edges(module) -> list[int]:
    channels = module.cell.channels
    taps = (live_taps(operations, channels, (name,)) for name in operation_names(operations))
    return [module.options.stages * len(one) * channels**2 for one in taps]

  def of_module(network: Network, name: str) -> int:
    illumination = count_folded_macs(network, "i", 1, 1)
    return illumination if name == "illumination" else count_folded_macs(network, "i+n", 1, 1) - illumination

  return _sum_over_edges(options, operations, of_edges, of_module)


def _sum_over_edges(
  options: NetworkOptions,
  operations: tuple[Operation, ...],
  of_edges: Callable[..., list[int]],
  of_module: Callable[[Network, str], int],
) -> NetworkCost:
  """A cost without a part of pairs, from that of each operation on an edge of a module and that of a whole module."""
  names = operation_names(operations)
  first = build_network(options, Genotype(*[names[:1] * len(EDGES)] * len(CELLS)), operations)
  cells = {}
  for name in CELLS:
    edge = np.array(of_edges(getattr(first, name)))
    fixed = of_module(first, name) - len(EDGES) * int(edge[0])
    cells[name] = CellCost(edge, np.zeros((len(names), len(names)), edge.dtype), fixed)
  return NetworkCost(cells, names)
