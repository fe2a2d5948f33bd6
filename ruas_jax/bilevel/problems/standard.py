"""The record of a standard problem."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from ruas_jax.bilevel.problem import BilevelProblem, PyTree


class StandardProblem(NamedTuple):
  """A bilevel problem with its data, a start, and what is known about it. All functions are pure.

  Attributes:
    problem: the two losses; each is a mean over the batch.
    train: data of the inner loss, a pytree whose leaves have a leading axis of examples. A batch is a part of it.
    validation: data of the outer loss, in the same form.
    weights, alpha: the start.
    value: `alpha -> []`, the outer loss on all validation data at `minimum(alpha)`; None: no exact minimum is known.
    hypergradient: the derivative of `value`, with alpha's structure.
    solution: the best `(weights, alpha)`, if it is known.
    minimum: `alpha -> weights` where the inner loss on all training data is least.
    measures: `(weights, alpha) -> ` numbers by name that say how good a solution is, on data that no loss has seen.
  """

  problem: BilevelProblem
  train: PyTree
  validation: PyTree
  weights: PyTree
  alpha: PyTree
  value: Callable[[PyTree], jax.Array] | None = None
  hypergradient: Callable[[PyTree], PyTree] | None = None
  solution: tuple[PyTree, PyTree] | None = None
  minimum: Callable[[PyTree], PyTree] | None = None
  measures: Callable[[PyTree, PyTree], dict[str, jax.Array]] | None = None
