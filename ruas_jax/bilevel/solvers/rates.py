"""Step sizes and other numbers that may change from step to step."""

import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ruas_jax.bilevel.problem import PyTree

Number = float | jax.Array
Rate = Number | Callable[[jax.Array], Any]
"""A number, which may be traced, or a schedule: a function of the step, from 0, as in optax."""


def power_schedule(first: Number, power: float, offset: Number = 1.0) -> Callable[[jax.Array], jax.Array]:
  """The schedule `first (offset / (offset + step))^power`: it falls for a positive power and grows for a negative
  one."""
  return lambda step: first * (offset / (offset + step)) ** power


def rate_at(rate: Rate, step: jax.Array) -> Number:
  """The value in this step."""
  return rate(step) if callable(rate) else rate


def require_positive(method: str, **rates: Rate) -> None:
  """Raises ValueError for a number that is not positive. Schedules and traced numbers are not checked."""
  for name, rate in rates.items():
    if isinstance(rate, int | float) and not rate > 0:
      raise ValueError(f"method {method}: {name} must be positive, not {rate}")


def require_counts(method: str | None, **counts: int) -> None:
  """Raises ValueError for a number that is not an integer of at least 1. The error names the method, if given."""
  for name, count in counts.items():
    if isinstance(count, bool) or not isinstance(count, numbers.Integral) or count < 1:
      subject = f"method {method}: {name}" if method else name
      raise ValueError(f"{subject} must be an integer of at least 1, not {count!r}")


def add_scaled(tree: PyTree, factor: Number, direction: PyTree) -> PyTree:
  """`tree + factor · direction`; every leaf keeps its dtype."""
  return jax.tree.map(lambda leaf, to: leaf + jnp.asarray(factor, leaf.dtype) * to.astype(leaf.dtype), tree, direction)


def descend(tree: PyTree, rate: Number, direction: PyTree) -> PyTree:
  """`tree − rate · direction`; every leaf keeps its dtype."""
  return add_scaled(tree, -rate, direction)


def relative_norm(tree: PyTree, reference: PyTree) -> jax.Array:
  """`||tree|| / ||reference||`; the norm itself if the reference is zero."""
  size = optax.tree.norm(reference)
  return optax.tree.norm(tree) / jnp.where(size > 0, size, jnp.ones_like(size))
