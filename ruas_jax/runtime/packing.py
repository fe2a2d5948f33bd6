"""A pytree as one array of bytes: what is written and read array by array takes its time for each."""

from typing import Any

import jax
import numpy as np

Layout = list[list[Any]]


def layout_of(tree: Any) -> Layout:
  """`[path, dtype, shape]` of every leaf, as JSON has it; the leaves have a shape and a dtype."""
  leaves = jax.tree.leaves_with_path(tree)
  return [[jax.tree_util.keystr(path), str(leaf.dtype), list(leaf.shape)] for path, leaf in leaves]


def pack(tree: Any) -> np.ndarray:
  """The bytes of all leaves, one leaf after the other: uint8 `[bytes]`."""
  leaves = map(np.asarray, jax.tree.leaves(jax.device_get(tree)))
  return np.concatenate([np.frombuffer(leaf.tobytes(), np.uint8) for leaf in leaves])


def unpack(packed: np.ndarray, shapes: Any) -> Any:
  """What `pack` was given, numpy arrays; `shapes` is a pytree of the same layout."""
  begun = 0

  def take(leaf):
    nonlocal begun
    first, begun = begun, begun + size_of(leaf)
    return np.frombuffer(packed[first:begun].tobytes(), leaf.dtype).reshape(leaf.shape)

  return jax.tree.map(take, shapes)


def size_of(tree: Any) -> int:
  """Bytes of all leaves."""
  return sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))
