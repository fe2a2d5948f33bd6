"""The default meaning of alpha: every row of the last axis is a choice."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.bilevel import split_inexact


def argmax_of_rows(alpha: Any) -> Any:
  """The index of the largest logit of every row, in alpha's structure as JSON. A single number stays a number."""

  def chosen(leaf):
    leaf = np.asarray(leaf)
    return (leaf if leaf.ndim == 0 else leaf.argmax(axis=-1)).tolist()

  return _as_json(jax.tree.map(chosen, split_inexact(alpha)[0]))


def entropies(alpha: Any) -> dict[str, jax.Array]:
  """For each leaf of alpha with rows, the mean over rows of the entropy of softmax, in nats."""
  found = {}
  for path, leaf in jax.tree.leaves_with_path(split_inexact(alpha)[0]):
    if leaf.ndim:
      log_shares = jax.nn.log_softmax(leaf)
      name = jax.tree_util.keystr(path, simple=True, separator="_") or "alpha"
      found[f"{name}_entropy"] = -jnp.sum(jnp.exp(log_shares) * log_shares, axis=-1).mean()
  return found


def _as_json(tree: Any) -> Any:
  if isinstance(tree, dict):
    return {str(name): _as_json(value) for name, value in tree.items()}
  if hasattr(tree, "_asdict"):
    return _as_json(tree._asdict())
  if isinstance(tree, list | tuple):
    return [_as_json(value) for value in tree]
  return tree
