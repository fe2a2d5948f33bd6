"""Functions that both unrolled modules share: stacked weights and their folding, and the scan over stages."""

import jax
from jax import lax

from ruas_jax.convolution import native
from ruas_jax.lowlight.cell import Cell, FoldedCell, Weights

_MOST_UNROLLED = 4


def init_stages(init, key: jax.Array, stages: int) -> Weights:
  """`init(key)` for every stage, stacked: each leaf has a leading axis `S`."""
  return jax.vmap(init)(jax.random.split(key, stages))


def fold_stages(
  cell: Cell, weights: Weights, shares: jax.Array | None, channels: jax.Array | None = None
) -> FoldedCell:
  """The folded cells for all sets of weights: one per stage, or one for all stages if they share weights."""
  return jax.vmap(cell.fold, in_axes=(0, None, None))(weights, shares, channels)


def scan_stages(cell: Cell, stage, carry, folded: FoldedCell, stages: int):
  """`lax.scan` of `stage(carry, folded cell) -> (carry, output)` over the cells from `fold_stages`."""
  unroll = stages if _is_cheap_to_unroll(cell, stages) else 1
  if jax.tree.leaves(folded)[0].shape[0] == stages:
    return lax.scan(stage, carry, folded, unroll=unroll)
  shared = jax.tree.map(lambda leaf: leaf[0], folded)
  return lax.scan(lambda state, _: stage(state, shared), carry, None, length=stages, unroll=unroll)


def _is_cheap_to_unroll(cell: Cell, stages: int) -> bool:
  """Whether an unrolled loop compiles as fast as a loop: a compiled convolution is one call, however often it occurs.

  Then it also runs faster, because a loop copies the arrays that its derivative needs into stacks and out of them.
  """
  is_compiled = cell.layout.side == 1 and jax.default_backend() == "cpu" and native.form().native
  return is_compiled and stages <= _MOST_UNROLLED
