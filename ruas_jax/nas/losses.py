"""Adapts losses as users write them to the scalar functions `(weights, alpha, batch)` that estimators differentiate."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from ruas_jax.bilevel import BilevelProblem, ProblemError


class Loss:
  """A loss that may take a key and may return `(loss, metrics)`. Calling it returns the scalar only.

  If `keyed`, its batch is a pair `(batch, key)`.
  """

  def __init__(self, loss: Callable, *, keyed: bool):
    self._loss, self.keyed = loss, keyed
    self._has_metrics = False  # known after the first call

  def __call__(self, weights: Any, alpha: Any, batch: Any) -> jax.Array:
    value = self._value(weights, alpha, batch)
    self._has_metrics = _is_loss_with_metrics(value)
    return value[0] if self._has_metrics else value

  def metrics(self, weights: Any, alpha: Any, batch: Any) -> dict[str, jax.Array]:
    """The metrics that the loss returns. Call this after the loss; the compiler merges the two calls if their arguments
    are the same."""
    return dict(self._value(weights, alpha, batch)[1]) if self._has_metrics else {}

  def _value(self, weights, alpha, batch):
    batch, key = batch if self.keyed else (batch, None)
    return self._loss(weights, alpha, batch, **({"key": key} if takes_key(self._loss) else {}))


def _is_loss_with_metrics(value: Any) -> bool:
  return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Mapping)


def wrap(problem: BilevelProblem) -> BilevelProblem:
  """The problem with both losses as `Loss`. Both are keyed if one takes a key: estimators call both on one batch."""
  keyed = any(map(takes_key, problem))
  return BilevelProblem(*(Loss(loss, keyed=keyed) for loss in problem))


def takes_key(loss: Callable) -> bool:
  """Whether the loss has a parameter `key`."""
  return "key" in inspect.signature(loss).parameters


@contextlib.contextmanager
def naming(player: str) -> Iterator[None]:
  """Context in which an error about a loss, weights or alpha names the player."""
  try:
    yield
  except ProblemError as error:
    raise ProblemError(f"player {player!r}: {error}") from None
