"""The distillation cell: seven searched edges and a 1x1 fusion (section 3.2.1, Fig. 2d).

With `r_0` the input, activation `a`, and for i = 1, 2, 3

    d_i = a(distill_i(r_{i-1})),   r_i = a(remain_i(r_{i-1}) + r_{i-1}),   d_4 = a(distill_4(r_3))

the cell's value is `fusion([d_1, d_2, d_3, d_4])`. The supernet and a derived network use the same wiring with
different edges. `+ r_{i-1}` is folded into the centre tap of `remain_i`. `distill_i` and `remain_i` read the same node:
if they have the same taps, as in the supernet, they are computed as one convolution of twice the width.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ruas_jax.convolution.layout import ImageLayout
from ruas_jax.convolution.parts import Activation, Part, divide, whole
from ruas_jax.convolution.primitives import Taps, identity_taps, reach
from ruas_jax.lowlight.genotype import EDGES
from ruas_jax.lowlight.mixed_op import fold_edges, init_edges, init_kernels, sum_of_operations
from ruas_jax.lowlight.operations import (
  CANDIDATES,
  Operation,
  identity_kernel,
  kernel_on_taps,
  live_taps,
  operation_names,
  own_taps,
)

Weights = dict[str, Any]

PAIRS = 3  # pairs of a distill and a remain edge that read the same node; one more distill edge follows
NODES = PAIRS + 1


class Affine(NamedTuple):
  """A convolution that is ready to run in an `ImageLayout`: its `kernel`, whose taps the cell gives, and its `bias`."""

  kernel: jax.Array
  bias: jax.Array


class FoldedCell(NamedTuple):
  """A cell's convolutions for one stage: three pairs (each is one convolution or two edges), the last edge, the fusion.

  An edge of a derived network is None if its operation is skip.
  """

  pairs: tuple[tuple[Affine | None, ...], ...]
  last: Affine | None
  fusion: Affine


def in_layout(layout: ImageLayout, kernel: jax.Array, bias: jax.Array, taps: Taps) -> Affine:
  """`kernel [T, O, C]` and `bias [O]` as the layout needs them."""
  return Affine(layout.kernel(kernel, taps), layout.bias(bias))


@dataclasses.dataclass(frozen=True)
class Cell:
  """A cell with `channels` channels over `operations`: the supernet, or the network of `genotype`.

  Weights: `{"edges": ..., "fusion": {"kernel": [1, 1, 4C, C], "bias": [C]}}`. The edges of the supernet are those of
  `mixed_op`. The edges of a derived network are `{edge name: {"kernel", "bias"}}`, without edges that have no weights.
  """

  channels: int
  operations: tuple[Operation, ...] = CANDIDATES
  genotype: tuple[str, ...] | None = None
  layout: ImageLayout = ImageLayout()

  def __post_init__(self):
    names = operation_names(self.operations)
    if len(set(names)) != len(names):
      raise ValueError(f"candidate operations must have different names, but they are {names}")

  @property
  def edge_operations(self) -> tuple[Operation, ...]:
    """The operation on each edge of a derived cell."""
    assert self.genotype is not None
    by_name = dict(zip(operation_names(self.operations), self.operations, strict=True))
    return tuple(by_name[name] for name in self.genotype)

  def edge_taps(self) -> tuple[Taps, ...]:
    """The taps of each edge's convolution: in the supernet those of all candidates, in a derived cell `own_taps`."""
    if self.genotype is None:
      return (live_taps(self.operations, self.channels),) * len(EDGES)
    taps = own_taps(self.operations, self.channels)
    return tuple(taps[name] for name in self.genotype)

  def node_taps(self) -> tuple[tuple[Taps, ...], ...]:
    """The taps of the convolutions at each node: one convolution if its edges have the same taps, else one per edge.
    An edge without taps has no convolution."""
    taps = self.edge_taps()
    nodes = (taps[2 * node : 2 * node + 2] for node in range(NODES))
    return tuple(node[:1] if len(set(node)) == 1 and node[0] else node for node in nodes)

  def reach(self) -> int:
    """Distance in pixels to the farthest input pixel that the cell's value depends on."""
    edges = [reach(taps) if taps else 0 for taps in self.edge_taps()]
    on_the_way, farthest = 0, 0
    for distill, remain in zip(edges[:-1:2], edges[1::2], strict=True):
      farthest = max(farthest, on_the_way + distill)
      on_the_way += remain
    return max(farthest, on_the_way + edges[-1])

  def init(self, key: jax.Array, *, output_scale: float = 1.0, dtype=jnp.float32) -> Weights:
    """Random weights. `output_scale` multiplies the fusion's kernel, so that a stage can start near the identity."""
    edge_key, fusion_key = jax.random.split(key)
    if self.genotype is None:
      edges = init_edges(edge_key, self.operations, self.channels, len(EDGES), dtype)
    else:
      shapes = {
        edge: operation.weight_shape(self.channels)
        for edge, operation in zip(EDGES, self.edge_operations, strict=True)
        if operation.weight_shape
      }
      kernels = init_kernels(edge_key, shapes, dtype=dtype)
      bias = jnp.zeros((self.channels,), dtype)
      edges = {edge: {"kernel": kernel, "bias": bias} for edge, kernel in kernels.items()}
    fusion = init_kernels(fusion_key, {"kernel": (1, 1, NODES * self.channels, self.channels)}, dtype=dtype)["kernel"]
    return {"edges": edges, "fusion": {"kernel": output_scale * fusion, "bias": jnp.zeros((self.channels,), dtype)}}

  def fold(self, weights: Weights, shares: jax.Array | None, channels: jax.Array | None = None) -> FoldedCell:
    """Folds edges, pairs and residuals of one stage. Only the supernet uses the mixing weights `shares [E, O]`, and in
    the wide space `channels [C]`, by which every convolution multiplies the channels that it reads."""
    derived = self.genotype is not None
    *pairs, (last,) = self._derived_nodes(weights) if derived else self._supernet_nodes(weights, shares, channels)
    joined = None if channels is None else jnp.tile(channels, NODES)
    return FoldedCell(tuple(pairs), last, fold_fusion(self.layout, weights["fusion"], identity_taps, joined))

  def _supernet_nodes(self, weights: Weights, shares: jax.Array | None, channels: jax.Array | None):
    """The convolutions at each node. All edges are folded side by side and divided once, because every operation on
    small arrays, and its derivatives, takes time to compile."""
    assert shares is not None
    taps, identity = self.edge_taps()[0], np.eye(self.channels)
    kernel, bias = fold_edges(weights["edges"], shares, self.operations, taps, self.channels)
    residual = np.concatenate([identity * _is_remain(edge) for edge in range(len(EDGES))])
    kernel += jnp.array([residual * (tap == (0, 0)) for tap in taps], kernel.dtype)
    if channels is not None:
      kernel *= channels[None, None]
    folded = in_layout(self.layout, kernel, bias, taps)
    widths = [folded.bias.size * edges // len(EDGES) for edges in [2] * PAIRS + [1]]
    kernels, biases = lax.split(folded.kernel, widths, axis=1), lax.split(folded.bias, widths)
    return [(Affine(*node),) for node in zip(kernels, biases, strict=True)]

  def _derived_nodes(self, weights: Weights) -> list[tuple[Affine | None, ...]]:
    edges = [self._derived_edge(weights, *edge) for edge in enumerate(self.edge_taps())]
    nodes = (edges[2 * node : 2 * node + 2] for node in range(NODES))
    counts = map(len, self.node_taps())
    return [
      tuple(node) if count == len(node) else (_side_by_side([edge for edge in node if edge is not None]),)
      for node, count in zip(nodes, counts, strict=True)
    ]

  def _derived_edge(self, weights: Weights, edge: int, taps: Taps) -> Affine | None:
    if not taps:
      return None
    operation, dtype = self.edge_operations[edge], weights["fusion"]["kernel"].dtype
    of_edge = weights["edges"].get(EDGES[edge], {"kernel": None, "bias": jnp.zeros((self.channels,), dtype)})
    kernel = kernel_on_taps(operation.to_kernel(of_edge["kernel"], self.channels), taps, dtype)
    if _is_remain(edge):
      kernel += kernel_on_taps(identity_kernel(self.channels), taps, dtype)
    return in_layout(self.layout, kernel, of_edge["bias"], taps)

  def apply(self, folded: FoldedCell, x: jax.Array, activation: Activation, mask: jax.Array | None = None) -> jax.Array:
    """Maps planes of the cell's layout to planes of the same shape; `mask` is that of the layout."""
    taps = self.node_taps()

    def edge(r: Part, affine: Affine | None, taps, *, remain: bool = False) -> Part:
      if affine is not None:
        return whole(self.layout.convolve([r], *affine, taps, mask, activation))
      skipped = self.layout.inside(r.alone(), mask)
      return whole(activation(skipped + skipped if remain else skipped))

    if self.genotype is not None:  # or XLA computes it again for an edge that skips
      x = lax.optimization_barrier(x)
    r, distilled = whole(x), []
    for pair, pair_taps in zip(folded.pairs, taps[:PAIRS], strict=True):
      if len(pair) == 2:
        d, r = edge(r, pair[0], pair_taps[0]), edge(r, pair[1], pair_taps[1], remain=True)
      else:
        d, r = divide(edge(r, *pair, *pair_taps).planes, 2)
      distilled.append(d)
    distilled.append(edge(r, folded.last, *taps[-1]))
    return self.layout.convolve(distilled, *folded.fusion, identity_taps)

  def apply_unfolded(self, weights: Weights, shares: jax.Array, x: jax.Array, activation: Activation) -> jax.Array:
    """Reference for `apply` of the supernet on `[B, C, H, W]`: the definition, with each candidate computed
    separately."""

    def edge(index, r):
      of_edge = jax.tree.map(lambda leaf: leaf[index], weights["edges"])
      return sum_of_operations(r, of_edge, shares[index], self.operations)

    distilled = []
    for node in range(PAIRS):
      distilled.append(activation(edge(2 * node, x)))
      x = activation(edge(2 * node + 1, x) + x)
    distilled.append(activation(edge(2 * PAIRS, x)))
    pixels = ImageLayout()
    fusion = fold_fusion(pixels, weights["fusion"], identity_taps)
    return pixels.convolve([whole(d) for d in distilled], *fusion, identity_taps)


def _is_remain(edge: int) -> bool:
  return edge % 2 == 1


def _side_by_side(edges: list[Affine]) -> Affine:
  """Convolutions with the same taps as one."""
  kernels, biases = zip(*edges, strict=True)
  return Affine(jnp.concatenate(kernels, axis=1), jnp.concatenate(biases))


def fold_fusion(layout: ImageLayout, weights: Weights, taps: Taps, channels: jax.Array | None = None) -> Affine:
  """A dense `{"kernel": [h, w, C, O], "bias": [O]}` as a convolution on `taps`, which are all of its taps. If given,
  `channels [C]` multiply the channels that it reads."""
  kernel = weights["kernel"]
  if channels is not None:
    kernel = kernel * channels[None, None, :, None]
  return in_layout(layout, kernel.reshape(-1, *kernel.shape[2:]).swapaxes(-1, -2), weights["bias"], taps)
