"""Architectures as numbers: the chosen operation of every choice.

A choice is a row of logits `[O]` in a floating leaf of alpha `[..., O]`. The choices of all leaves are counted in the
order of jax's leaves. An architecture is the tuple of the chosen columns.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.bilevel import split_inexact
from ruas_jax.errors import UserError

Architecture = tuple[int, ...]


def choices_of(alpha: Any) -> tuple[int, ...]:
  """The number of operations of every choice."""
  leaves = [np.shape(leaf) for leaf in jax.tree.leaves(split_inexact(alpha)[0])]
  return tuple(shape[-1] for shape in leaves for _ in range(int(np.prod(shape[:-1]))))


def architecture_of(alpha: Any) -> Architecture:
  """The strongest operation of every choice."""
  leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(split_inexact(alpha)[0])]
  return tuple(int(index) for leaf in leaves for index in leaf.argmax(axis=-1).ravel())


def one_hot_shares(alpha: Any, architecture: Sequence[int] | np.ndarray | jax.Array) -> Any:
  """The mixing weights of an architecture in alpha's structure: one for the chosen operation of each choice, else zero.
  The architecture may be a traced array `[choices]`."""
  floating, merge = split_inexact(alpha)
  leaves, structure = jax.tree.flatten(floating)
  chosen = jnp.asarray(architecture)
  counts = [int(np.prod(leaf.shape[:-1])) for leaf in leaves]
  if chosen.shape != (sum(counts),):
    raise UserError(f"an architecture of this space has {sum(counts)} numbers, not {chosen.shape}")
  parts = jnp.split(chosen, np.cumsum(counts)[:-1])
  return merge(
    structure.unflatten(
      jax.nn.one_hot(part.reshape(leaf.shape[:-1]), leaf.shape[-1], dtype=leaf.dtype)
      for part, leaf in zip(parts, leaves, strict=True)
    )
  )
