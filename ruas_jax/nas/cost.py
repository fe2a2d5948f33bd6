"""The cost of an architecture as a part of the search: the expected cost of the mixing weights, in the outer losses.

`SearchOptions.cost` names one of the problem's `costs`. A player's outer loss becomes

    outer loss + cost_weight * cost(shares)                              without a target
    outer loss + cost_weight * max(0, cost(shares) / cost_target - 1)    with one

where `shares` are the means of the mixing weights of all players. Those of the other players are constants. Where the
problem's `hyper` is a dictionary with `search.cost_weight` or `search.cost_target`, these numbers replace the options,
so that a population can sweep them: each weight gives a point of a trade-off.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.nas.options import COST_TARGET, COST_WEIGHT, SearchOptions
from ruas_jax.nas.problem import SearchProblem
from ruas_jax.nas.relaxation import Number
from ruas_jax.option_values import perhaps_meant

Cost = Callable[[Any], jax.Array]
"""Mixing weights of all modules -> expected cost, `[]`, differentiable."""


class CostTerm(NamedTuple):
  """Attributes:
  name: name of the problem's cost.
  weight: its weight.
  target: the cost that is free; None: none is.
  """

  name: str
  weight: Number
  target: Number | None

  @property
  def metric(self) -> str:
    """The name of the expected cost in the log."""
    return f"cost_{self.name}"

  def __call__(self, expected: jax.Array) -> jax.Array:
    """The term of the outer loss for an expected cost."""
    return self.weight * (expected if self.target is None else jax.nn.relu(expected / self.target - 1))


def cost_term(options: SearchOptions, hyper: Any) -> CostTerm | None:
  """The term of these options and swept numbers; None if its weight is always zero."""
  numbers = hyper if isinstance(hyper, Mapping) else {}
  if options.cost is None or not (COST_WEIGHT in numbers or options.cost_weight):
    return None
  weight, target = numbers.get(COST_WEIGHT, options.cost_weight), numbers.get(COST_TARGET, options.cost_target)
  return CostTerm(options.cost, weight, target)


def check_cost(problem: SearchProblem, options: SearchOptions) -> None:
  """Raises UserError where the options of the cost do not fit together or to the problem."""
  swept = problem.hyper if isinstance(problem.hyper, Mapping) else {}
  if options.cost is None:
    for path in (COST_WEIGHT, COST_TARGET):
      if path in swept:
        raise UserError(f"`{path}` needs `search.cost`: name a cost")
    return
  if options.cost not in problem.costs:
    known, meant = ", ".join(problem.costs) or "none", perhaps_meant(options.cost, problem.costs)
    raise UserError(f"`search.cost` {options.cost!r} is unknown{meant} (known: {known})")
  if cost_term(options, swept) is None and (COST_TARGET in swept or options.cost_target is not None):
    raise UserError(f"`{COST_TARGET}` needs `{COST_WEIGHT}`: set a weight above 0, for example 0.1")


def cost_of_edges(cost: Callable[[tuple[str, ...]], float], edges: int, operations: Sequence[str]) -> Cost:
  """The expected cost for mixing weights `[E, O]`, as a share of the most expensive architecture's cost.

  Args:
    cost: the cost of the operations on all edges; it must be a sum over edges.
    edges: E.
    operations: the names of the O operations.
  """
  first = (operations[0],) * edges
  base = cost(first)
  more = np.array(
    [[cost((*first[:edge], name, *first[edge + 1 :])) - base for name in operations] for edge in range(edges)]
  )
  largest = base + more.max(axis=1).sum()
  return lambda shares: (base + jnp.sum(shares * jnp.asarray(more, shares.dtype))) / largest
