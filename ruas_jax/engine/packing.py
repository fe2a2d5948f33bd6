"""A pytree as one array of bytes, because writing and reading take time for every array."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Layout = list[list[Any]]


def layout_of(tree: Any) -> Layout:
  """`[path, dtype, shape]` of every leaf, as JSON types. The leaves must have a shape and a dtype."""
  leaves = jax.tree.leaves_with_path(tree)
  return [[jax.tree_util.keystr(path), str(leaf.dtype), list(leaf.shape)] for path, leaf in leaves]


def pack(tree: Any) -> np.ndarray:
  """The bytes of all leaves, one after the other: uint8 `[bytes]`."""
  leaves = [np.asarray(_words(leaf)) for leaf in jax.tree.leaves(jax.device_get(tree))]
  return np.concatenate([np.frombuffer(leaf.tobytes(), np.uint8) for leaf in leaves])


def unpack(packed: np.ndarray, shapes: Any) -> Any:
  """Inverse of `pack`: numpy arrays and PRNG keys. `shapes` is a pytree with the same layout."""
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
  """Size of all leaves in bytes."""
  leaves = [jax.eval_shape(_words, leaf) for leaf in jax.tree.leaves(tree)]
  return sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in leaves)


def _words(leaf: Any) -> Any:
  """The integers of a PRNG key; any other leaf unchanged."""
  return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf: Any) -> bool:
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
