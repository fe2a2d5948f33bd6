"""From architecture logits to mixing weights: the continuous relaxation of a discrete choice."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from ruas_jax.bilevel import split_inexact


def softmax(alpha: Any) -> Any:
  """Mixing weights of architecture logits: the softmax along the last axis of every floating leaf (DARTS, Liu et al.
  2019). The structure and the shapes are those of `alpha`."""
  logits, merge = split_inexact(alpha)
  return merge(jax.tree.map(lambda leaf: jax.nn.softmax(leaf, axis=-1), logits))


def of_alpha(loss: Callable, relax: Callable[[Any], Any]) -> Callable:
  """The loss as a function of alpha: `loss(weights, relax(alpha), batch)`. A parameter `key` is passed on."""

  @functools.wraps(loss)
  def relaxed(weights: Any, alpha: Any, batch: Any, **key: jax.Array) -> Any:
    return loss(weights, relax(alpha), batch, **key)

  return relaxed
