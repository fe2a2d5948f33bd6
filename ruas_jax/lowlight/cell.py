"""The distillation cell: seven searched edges and a 1x1 fusion (section 3.2.1, Fig. 2d).

With `r_0` the input, activation `a`, and for i = 1, 2, 3

    d_i = a(distill_i(r_{i-1})),   r_i = a(remain_i(r_{i-1}) + r_{i-1}),   d_4 = a(distill_4(r_3))

the cell's value is `fusion([d_1, d_2, d_3, d_4])`. The supernet and a derived network are this one wiring over other
edges. `+ r_{i-1}` folds into the centre tap of `remain_i`. `distill_i` and `remain_i` read the same node: where they
see the same taps, as in the supernet, they are one convolution of twice the width.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ruas_jax.convolution.primitives import Taps, convolve, identity_taps, reach
from ruas_jax.lowlight.genotype import EDGES
from ruas_jax.lowlight.mixed_op import fold_edges, init_edges, init_kernels, sum_of_operations
from ruas_jax.lowlight.operations import (
  CANDIDATES,
  Operation,
  identity_kernel,
  kernel_on_taps,
  live_taps,
  operation_names,
)

Weights = dict[str, Any]
Activation = Callable[[jax.Array], jax.Array]

PAIRS = 3  # of a distill and a remain edge that read the same node; a last distill edge follows
NODES = PAIRS + 1


class Affine(NamedTuple):
  """A convolution ready to run: `kernel [T, O, C]` (its taps are the cell's), `bias [O]`."""

  kernel: jax.Array
  bias: jax.Array


class FoldedCell(NamedTuple):
  """A cell's convolutions for one stage: the three pairs, each as one convolution or two; the last edge; the fusion."""

  pairs: tuple[tuple[Affine, ...], ...]
  last: Affine
  fusion: Affine


def apply_affine(x: jax.Array, affine: Affine, taps: Taps, valid: jax.Array | None = None) -> jax.Array:
  """`convolve` and the bias: `[B, C, H, W]` to `[B, O, H, W]`.

  `valid`, bool `[1 or B, 1, H, W]`, says which pixels are the image; the others count as outside of it, hence as zero.
  """
  x = x if taps == identity_taps else inside(x, valid)  # a pixel that sees no other need not be told
  return convolve(x, affine.kernel, taps) + affine.bias[None, :, None, None]


def inside(x: jax.Array, valid: jax.Array | None) -> jax.Array:
  """`x` with zeros where it is not valid; None: all of it is. A choice, not a product: NaN stays outside too."""
  return x if valid is None else jnp.where(valid, x, jnp.zeros((), x.dtype))


@dataclasses.dataclass(frozen=True)
class Cell:
  """A cell of `channels` channels over `operations`: the supernet, or the network that `genotype` names.

  Weights: `{"edges": ..., "fusion": {"kernel": [1, 1, 4C, C], "bias": [C]}}`; the supernet's edges are those of
  `mixed_op`, a derived network's are `{edge name: {"kernel", "bias"}}` without the edges that have none.
  """

  channels: int
  operations: tuple[Operation, ...] = CANDIDATES
  genotype: tuple[str, ...] | None = None

  def __post_init__(self):
    names = operation_names(self.operations)
    if len(set(names)) != len(names):
      raise ValueError(f"candidate operations need different names, got {names}")

  @property
  def edge_operations(self) -> tuple[Operation, ...]:
    """The operation on each edge of a derived cell."""
    assert self.genotype is not None
    by_name = dict(zip(operation_names(self.operations), self.operations, strict=True))
    return tuple(by_name[name] for name in self.genotype)

  def edge_taps(self) -> tuple[Taps, ...]:
    """Each edge's taps: in the supernet all that the candidates can use, in a derived cell those of its operation."""
    names = [None] * len(EDGES) if self.genotype is None else [(name,) for name in self.genotype]
    return tuple(live_taps(self.operations, self.channels, own) for own in names)

  def node_taps(self) -> tuple[tuple[Taps, ...], ...]:
    """For each node the taps of its convolutions: of one where its edges see the same taps, else of one for each
    edge."""
    taps = self.edge_taps()
    nodes = (taps[2 * node : 2 * node + 2] for node in range(NODES))
    return tuple(node[:1] if len(set(node)) == 1 else node for node in nodes)

  def reach(self) -> int:
    """How many pixels away the cell's value looks at its input, along the farthest of its paths."""
    edges = [reach(taps) for taps in self.edge_taps()]
    on_the_way, farthest = 0, 0
    for distill, remain in zip(edges[:-1:2], edges[1::2], strict=True):
      farthest = max(farthest, on_the_way + distill)
      on_the_way += remain
    return max(farthest, on_the_way + edges[-1])

  def init(self, key: jax.Array, *, output_scale: float = 1.0, dtype=jnp.float32) -> Weights:
    """Weights; `output_scale` multiplies the fusion's kernel, so that an unrolled stage can start near the identity."""
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

  def fold(self, weights: Weights, alpha: jax.Array | None) -> FoldedCell:
    """Folds edges, pairs and residuals of one stage; `alpha [E, O]` is used by the supernet only."""
    taps = self.edge_taps()
    if self.genotype is None:
      assert alpha is not None
      kernels, biases = fold_edges(weights["edges"], alpha, self.operations, taps[0], self.channels)
    else:
      kernels, biases = zip(*(self._derived_edge(weights, *own) for own in enumerate(taps)), strict=True)
    pairs = []
    for node in range(PAIRS):
      distill, remain = (Affine(kernels[edge], biases[edge]) for edge in (2 * node, 2 * node + 1))
      identity = kernel_on_taps(identity_kernel(self.channels), taps[2 * node + 1], remain.kernel.dtype)
      remain = remain._replace(kernel=remain.kernel + identity)
      same = taps[2 * node] == taps[2 * node + 1]
      pairs.append((_side_by_side(distill, remain),) if same else (distill, remain))
    return FoldedCell(tuple(pairs), Affine(kernels[-1], biases[-1]), fold_fusion(weights["fusion"]))

  def _derived_edge(self, weights: Weights, edge: int, taps: Taps) -> tuple[jax.Array, jax.Array]:
    operation, dtype = self.edge_operations[edge], weights["fusion"]["kernel"].dtype
    own = weights["edges"].get(EDGES[edge], {"kernel": None, "bias": jnp.zeros((self.channels,), dtype)})
    return kernel_on_taps(operation.to_kernel(own["kernel"], self.channels), taps, dtype), own["bias"]

  def apply(
    self, folded: FoldedCell, x: jax.Array, activation: Activation, valid: jax.Array | None = None
  ) -> jax.Array:
    """`[B, C, H, W]` to the same shape; `valid` as in `apply_affine`."""
    taps = self.node_taps()

    distilled = []
    for pair, own_taps in zip(folded.pairs, taps[:PAIRS], strict=True):
      edges = [activation(apply_affine(x, *edge, valid)) for edge in zip(pair, own_taps, strict=True)]
      distill, x = edges if len(edges) == 2 else jnp.split(edges[0], 2, axis=1)
      distilled.append(distill)
    distilled.append(activation(apply_affine(x, folded.last, *taps[-1], valid=valid)))
    return apply_affine(jnp.concatenate(distilled, axis=1), folded.fusion, identity_taps)

  def apply_unfolded(self, weights: Weights, alpha: jax.Array, x: jax.Array, activation: Activation) -> jax.Array:
    """The oracle: `apply` of the supernet as its definition reads, every candidate on its own and nothing folded."""

    def edge(index, r):
      own = jax.tree.map(lambda leaf: leaf[index], weights["edges"])
      return sum_of_operations(r, own, alpha[index], self.operations)

    distilled = []
    for node in range(PAIRS):
      distilled.append(activation(edge(2 * node, x)))
      x = activation(edge(2 * node + 1, x) + x)
    distilled.append(activation(edge(2 * PAIRS, x)))
    return apply_affine(jnp.concatenate(distilled, axis=1), fold_fusion(weights["fusion"]), identity_taps)


def _side_by_side(one: Affine, other: Affine) -> Affine:
  """Two convolutions of the same taps as one of twice the width."""
  return Affine(jnp.concatenate([one.kernel, other.kernel], axis=1), jnp.concatenate([one.bias, other.bias]))


def fold_fusion(weights: Weights) -> Affine:
  """A dense `{"kernel": [h, w, C, O], "bias": [O]}` as the convolution on all of its taps."""
  kernel = weights["kernel"]
  return Affine(kernel.reshape(-1, *kernel.shape[2:]).swapaxes(-1, -2), weights["bias"])
