"""The bilevel problem, the record that every hypergradient estimator returns, and what an estimator is.

    minimise over alpha   outer_loss(weights*(alpha), alpha)   with   weights*(alpha) = argmin inner_loss(., alpha)

All arguments are pytrees; nothing here knows what they mean.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

PyTree = Any
Loss = Callable[[PyTree, PyTree, PyTree], jax.Array]


class BilevelProblem(NamedTuple):
  """Two scalar losses, each `(weights, alpha, batch) -> []`."""

  inner_loss: Loss
  outer_loss: Loss


class HypergradientOut(NamedTuple):
  """An estimate of `d outer_loss / d alpha`.

  Attributes:
    outer_loss: `[]`, at the weights where the estimator evaluates it.
    gradient: like alpha.
    weights: after the inner steps.
    inner_state: the inner optimiser's, after the inner steps.
    diagnostics: scalars, by name.
  """

  outer_loss: jax.Array
  gradient: PyTree
  weights: PyTree
  inner_state: PyTree
  diagnostics: dict[str, jax.Array]


class Estimator(Protocol):
  """`train_batches` has a leading axis of length `steps`; the incoming `inner_state` counts as a constant."""

  def __call__(
    self,
    problem: BilevelProblem,
    alpha: PyTree,
    weights: PyTree,
    inner_state: PyTree,
    train_batches: PyTree,
    val_batch: PyTree,
    *,
    key: jax.Array | None = None,
  ) -> HypergradientOut: ...


def require_key(name: str, key: jax.Array | None) -> None:
  """Raises ValueError where an estimator that draws at random was called without a key."""
  if key is None:
    raise ValueError(f"{name} draws at random: call it with key=")
