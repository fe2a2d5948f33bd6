"""A pytree as one array of bytes: what is written and read array by array takes its time for each."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Layout = list[list[Any]]


def layout_of(tree: Any) -> Layout:
  """`[path, dtype, shape]` of every leaf, as JSON has it; the leaves have a shape and a dtype."""
  leaves = jax.tree.leaves_with_path(tree)
  return [[jax.tree_util.keystr(path), str(leaf.dtype), list(leaf.shape)] for path, leaf in leaves]


def pack(tree: Any) -> np.ndarray:
  """The bytes of all leaves, one leaf after the other: uint8 `[bytes]`."""
  leaves = [np.asarray(_words(leaf)) for leaf in jax.tree.leaves(jax.device_get(tree))]
  return np.concatenate([np.frombuffer(leaf.tobytes(), np.uint8) for leaf in leaves])


def unpack(packed: np.ndarray, shapes: Any) -> Any:
  """What `pack` was given, numpy arrays and PRNG keys; `shapes` is a pytree of the same layout."""
  begun = 0

  def take(leaf):
    nonlocal begun
    first, begun = begun, begun + size_of(leaf)
    words = jax.eval_shape(_words, leaf)
    array = np.frombuffer(packed[first:begun].tobytes(), words.dtype).reshape(words.shape)
    if not _is_key(leaf):
      return array
    return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(jnp.zeros((), leaf.dtype)))

  return jax.tree.map(take, shapes)


def size_of(tree: Any) -> int:
  """Bytes of all leaves."""
  leaves = [jax.eval_shape(_words, leaf) for leaf in jax.tree.leaves(tree)]
  return sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in leaves)


def _words(leaf: Any) -> Any:
  """The integers of a PRNG key; any other leaf as it is."""
  return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf: Any) -> bool:
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
