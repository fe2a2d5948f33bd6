"""Adapts losses as users write them to the scalar functions `(weights, alpha, batch)` that estimators differentiate."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

from ruas_jax.bilevel.problem import BilevelProblem, ProblemError, PyTree, describe_array

COLLECTION = "collection"


class Loss:
  """A loss that may take more than a batch, and may return `(loss, metrics)`. Calling it returns the scalar only.

  Attributes:
    extras: names of what it receives beside the batch: "key", "collection". If there are any, its batch is a tuple
      `(batch, *extras)`.
  """

  def __init__(self, loss: Callable, *, extras: tuple[str, ...]):
    self._loss, self.extras = loss, extras
    self._has_metrics = False  # known after the first call

  @property
  def keyed(self) -> bool:
    """Whether it receives a key."""
    return "key" in self.extras

  def __call__(self, weights: PyTree, alpha: PyTree, batch: PyTree) -> jax.Array:
    return self._value(weights, alpha, batch)[0]

  def metrics(self, weights: PyTree, alpha: PyTree, batch: PyTree) -> dict[str, jax.Array]:
    """The metrics that the loss returns. Call this after the loss; the compiler merges the two calls if their arguments
    are the same."""
    if not self._has_metrics:
      return {}
    _, metrics = self._value(weights, alpha, batch)
    return {name: value for name, value in metrics.items() if name != COLLECTION}

  def with_collection(self, weights: PyTree, alpha: PyTree, batch: PyTree) -> tuple[jax.Array, PyTree]:
    """The scalar, and the new collection; None if there is none.

    Raises:
      ProblemError: the loss takes a collection and does not return one like it.
    """
    value, metrics = self._value(weights, alpha, batch)
    if COLLECTION not in self.extras:
      return value, None
    old = batch[1 + self.extras.index(COLLECTION)]
    if not takes(self._loss, COLLECTION):
      return value, old
    if COLLECTION not in metrics:
      raise ProblemError(
        "BilevelProblem.inner_loss has a parameter `collection`, so it must return "
        "(loss, {'collection': the new one, ...}); metrics may stand beside it"
      )
    require_like("the collection that BilevelProblem.inner_loss returns", metrics[COLLECTION], old)
    return value, metrics[COLLECTION]

  def _value(self, weights, alpha, batch):
    batch, *values = batch if self.extras else (batch,)
    extras = {name: value for name, value in zip(self.extras, values, strict=True) if takes(self._loss, name)}
    value = self._loss(weights, alpha, batch, **extras)
    self._has_metrics = _is_loss_with_metrics(value)
    return value if self._has_metrics else (value, {})


def _is_loss_with_metrics(value: Any) -> bool:
  return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Mapping)


def wrap(problem: BilevelProblem, extras: tuple[str, ...] = ("key",)) -> BilevelProblem:
  """The problem with both losses as `Loss`. Both have those of the `extras` that one of them takes: estimators call
  both on one batch."""
  taken = tuple(name for name in extras if any(takes(loss, name) for loss in problem))
  return BilevelProblem(*(Loss(loss, extras=taken) for loss in problem))


def map_alpha(problem: BilevelProblem, mapping: Callable[[PyTree], PyTree]) -> BilevelProblem:
  """The problem in u, where alpha is `mapping(u)`: for instance `jax.nn.softmax` for a point of the simplex."""

  def in_u(loss):
    @functools.wraps(loss)  # with its parameters
    def mapped(weights, u, batch, **extras):
      return loss(weights, mapping(u), batch, **extras)

    return mapped

  return BilevelProblem(*map(in_u, problem))


def takes(loss: Callable, name: str) -> bool:
  """Whether the loss has a parameter of this name."""
  if isinstance(loss, functools.partial) and name in loss.keywords:
    return False  # the user's own value
  return name in inspect.signature(loss).parameters


def require_like(what: str, tree: PyTree, like: PyTree) -> None:
  """Raises ProblemError, which names the first leaf, if the trees differ in structure, shapes or dtypes."""
  found, expected = (dict(_described_leaves(of)) for of in (tree, like))
  for path in {**expected, **found}:
    if found.get(path) != expected.get(path):
      raise ProblemError(f"{what} has {found.get(path, 'nothing')} at {path}, not {expected.get(path, 'nothing')}")
  if jax.tree.structure(tree) != jax.tree.structure(like):
    raise ProblemError(f"{what} has the structure {jax.tree.structure(tree)}, not {jax.tree.structure(like)}")


def _described_leaves(tree):
  for path, leaf in jax.tree.leaves_with_path(tree):
    yield jax.tree_util.keystr(path) or "its only leaf", describe_array(leaf)
