"""A pytree as one array for each dtype: what is written and read array by array takes its time for each."""

from typing import Any

import jax
import numpy as np

Layout = list[list[Any]]


def layout_of(tree: Any) -> Layout:
  """`[path, dtype, shape]` of every leaf, as JSON has it; the leaves have a shape and a dtype."""
  leaves = jax.tree.leaves_with_path(tree)
  return [[jax.tree_util.keystr(path), str(leaf.dtype), list(leaf.shape)] for path, leaf in leaves]


def pack(tree: Any) -> dict[str, np.ndarray]:
  """All leaves of a dtype one after the other, `[numbers]`, by the dtype's name."""
  groups: dict[str, list[np.ndarray]] = {}
  for leaf in jax.tree.leaves(jax.device_get(tree)):
    groups.setdefault(str(leaf.dtype), []).append(np.ravel(leaf))
  return {dtype: np.concatenate(leaves) for dtype, leaves in groups.items()}


def packed_shapes(tree: Any) -> dict[str, jax.ShapeDtypeStruct]:
  """Of what `pack` gives."""
  sizes: dict[str, int] = {}
  for leaf in jax.tree.leaves(tree):
    sizes[str(leaf.dtype)] = sizes.get(str(leaf.dtype), 0) + leaf.size
  return {dtype: jax.ShapeDtypeStruct((size,), dtype) for dtype, size in sizes.items()}


def unpack(packed: dict[str, np.ndarray], shapes: Any) -> Any:
  """What `pack` was given, numpy arrays; `shapes` is a pytree of the same layout."""
  begun = dict.fromkeys(packed, 0)

  def take(leaf):
    dtype = str(leaf.dtype)
    first, begun[dtype] = begun[dtype], begun[dtype] + leaf.size
    return packed[dtype][first : begun[dtype]].reshape(leaf.shape)

  return jax.tree.map(take, shapes)
