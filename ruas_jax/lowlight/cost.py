"""The cost of a network as a function of its genotype, and the expected cost of the supernet's mixing weights.

A cost is a sum over edges, and of what a pair of edges that read one node has together:

    cost = sum over cells of (fixed + sum over edges of edge[o_e] + sum over pairs of pair[o_distill, o_remain])

The expected cost is the same sum with o drawn from the mixing weights, each edge for itself. So it is the cost of a
genotype where the mixing weights are one-hot, and it is differentiable. In the wide space, `fixed`, `edge` and `pair`
depend on the sizes, and stages and channels are drawn too.

- parameters: as `Network.parameters` counts them.
- macs: multiply-accumulates of the folded network for one pixel (`count_folded_macs`): the taps that are alive decide.
- latency: seconds of a forward pass, from a table that `ruas latency` measures on a device.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.lowlight.cell import PAIRS
from ruas_jax.lowlight.genotype import CELLS, EDGES, Genotype, Sizes
from ruas_jax.lowlight.network import Network, build_network, count_folded_macs, count_parameters
from ruas_jax.lowlight.operations import CANDIDATES, Operation, operation_names, own_taps
from ruas_jax.lowlight.options import NetworkOptions
from ruas_jax.lowlight.space import choices_of, size_values, summing_to_one


class CellCost(NamedTuple):
  """The cost of a module by the operations of its cell.

  In the wide space the arrays have leading axes of sizes: stages, and channels for the noise removal.

  Attributes:
    edge: `[O]`, of an operation on any edge.
    pair: `[O, O]`, of the operations of a distill and a remain edge that read one node, in addition.
    fixed: of everything else.
  """

  edge: np.ndarray
  pair: np.ndarray
  fixed: np.ndarray | float

  def at(self, size: tuple[int, ...]) -> "CellCost":
    """The cost for one position along each axis of sizes."""
    return CellCost(self.edge[size], self.pair[size], np.asarray(self.fixed)[size])

  @property
  def sizes(self) -> list[tuple[int, ...]]:
    """All positions along the axes of sizes; one empty one without such axes."""
    return [*np.ndindex(self.edge.shape[:-1])]


class NetworkCost(NamedTuple):
  """A cost.

  Attributes:
    cells: cost of each module, by its name.
    names: names of the O operations.
    sizes: the sizes of the wide space by choice (`space.size_values`); empty: there are none.
  """

  cells: dict[str, CellCost]
  names: tuple[str, ...]
  sizes: Mapping[str, tuple[int, ...]] = {}

  def of(self, genotype: Genotype) -> float:
    """The cost of a genotype's network.

    Raises:
      UserError: it has sizes where this cost has none, or none or others where it has.
    """
    total = 0.0
    for name, cell in self.cells.items():
      cell = cell.at(self._size(name, genotype))
      chosen = [self.names.index(operation) for operation in getattr(genotype, name)]
      distill, remain = chosen[0 : 2 * PAIRS : 2], chosen[1 : 2 * PAIRS : 2]
      total += float(cell.fixed) + cell.edge[chosen].sum().item() + cell.pair[distill, remain].sum().item()
    return total

  def _size(self, module: str, genotype: Genotype) -> tuple[int, ...]:
    """The position of the genotype's sizes along the axes of a module's cost."""
    if not self.sizes and genotype.sizes is None:
      return ()
    chosen = dict(zip(self.sizes, genotype.sizes or (), strict=False))
    if len(chosen) != len(Sizes._fields) or any(size not in self.sizes[name] for name, size in chosen.items()):
      known = ", ".join(f"{name} {values}" for name, values in self.sizes.items()) or "no sizes (`network.space` ruas)"
      raise UserError(f"the sizes of genotype {genotype} are not in the space of this cost, which has {known}")
    return tuple(values.index(chosen[name]) for name, values in self.sizes.items() if name.startswith(module))

  def expected(self, shares: Mapping[str, Any]) -> jax.Array:
    """The expected cost, `[]`, for the mixing weights of each module."""
    total = jnp.zeros((), jnp.result_type(*jax.tree.leaves(shares)))
    for name, cell in self.cells.items():
      chosen = choices_of(shares[name])
      edge, pair, fixed = (jnp.asarray(part, total.dtype) for part in cell)
      for of_size in (chosen.stages, chosen.channels):  # the mean over the first axis of sizes that is left
        if of_size is not None:
          edge, pair, fixed = (jnp.tensordot(summing_to_one(of_size), part, axes=1) for part in (edge, pair, fixed))
      distill, remain = chosen.edges[0 : 2 * PAIRS : 2], chosen.edges[1 : 2 * PAIRS : 2]
      together = jnp.sum(distill[:, :, None] * remain[:, None, :] * pair[None])
      total += fixed + jnp.sum(chosen.edges * edge[None]) + together
    return total

  @property
  def largest(self) -> float:
    """The cost of the most expensive genotype."""
    return sum(max(_extreme(cell.at(size), np.max) for size in cell.sizes) for cell in self.cells.values())

  @property
  def smallest(self) -> float:
    """The cost of the cheapest genotype."""
    return sum(min(_extreme(cell.at(size), np.min) for size in cell.sizes) for cell in self.cells.values())

  def relative(self, shares: Mapping[str, Any]) -> jax.Array:
    """`expected` as a share of `largest`."""
    return self.expected(shares) / self.largest


def _extreme(cell: CellCost, best: Callable[[np.ndarray], Any]) -> float:
  """The largest or smallest cost of a module: its pairs and its last edge may be chosen one by one."""
  pairs = best(cell.edge[:, None] + cell.edge[None] + cell.pair)
  return float(cell.fixed + PAIRS * pairs + best(cell.edge))


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
    return [module.options.stages * len(taps) * channels**2 for taps in own_taps(operations, channels).values()]

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
  names, values = operation_names(operations), size_values(options)
  edges_of_first = names[:1] * len(EDGES)
  cells = {}
  for name in CELLS:
    axes = {choice: of_choice for choice, of_choice in values.items() if choice.startswith(name)}
    edges, fixed = [], []
    for size in itertools.product(*axes.values()):
      sizes = {choice: of_choice[0] for choice, of_choice in values.items()} | dict(zip(axes, size, strict=True))
      first = Genotype(edges_of_first, edges_of_first, Sizes._make(sizes.values()) if sizes else None)
      network = build_network(options, first, operations)
      edges.append(of_edges(getattr(network, name)))
      fixed.append(of_module(network, name) - len(EDGES) * edges[-1][0])
    shape = tuple(map(len, axes.values()))
    edge = np.array(edges).reshape(*shape, len(names))
    pair = np.zeros((*edge.shape, len(names)), edge.dtype)
    cells[name] = CellCost(edge, pair, np.array(fixed).reshape(shape))
  return NetworkCost(cells, names, values)
