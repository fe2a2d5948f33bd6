"""The cost of an architecture as a part of the search: an expected cost of the mixing weights in the outer losses.

A player's outer loss becomes

    outer loss + cost_weight * cost(shares)                              without a target
    outer loss + cost_weight * max(0, cost(shares) / cost_target - 1)    with one

where `cost` is one of the problem's `costs`, and `shares` are the mixing weights of all players. Those of the other
players are constants. Where the problem's `hyper` is a dictionary with `search.cost_weight` or `search.cost_target`,
these numbers replace the options, so that a population can sweep them: a weight gives one point of a trade-off.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.bilevel import BilevelProblem
from ruas_jax.errors import UserError
from ruas_jax.nas.losses import loss_and_metrics
from ruas_jax.nas.options import SearchOptions
from ruas_jax.nas.problem import Player, SearchProblem
from ruas_jax.option_values import perhaps_meant

WEIGHT, TARGET = "search.cost_weight", "search.cost_target"

Cost = Callable[[Any], jax.Array]
"""Mixing weights of all modules -> expected cost, `[]`, differentiable."""


def cost_of_edges(cost: Callable[[Sequence[str]], float], edges: int, operations: Sequence[str]) -> Cost:
  """The expected cost for mixing weights `[E, O]`, as a share of the most expensive architecture's cost.

  Args:
    cost: the cost of the operations on all edges; it must be a sum over edges.
    edges: E.
    operations: the names of the O operations.
  """
  first = [operations[0]] * edges
  base = cost(first)
  more = np.array(
    [[cost([*first[:edge], name, *first[edge + 1 :]]) - base for name in operations] for edge in range(edges)]
  )
  largest = base + more.max(axis=1).sum()
  return lambda shares: (base + jnp.sum(shares * jnp.asarray(more, shares.dtype))) / largest


def with_cost(problem: SearchProblem, options: SearchOptions) -> SearchProblem:
  """The problem with the cost of `options` in its players' outer losses; the same object if there is none.

  Each outer loss returns the expected cost as its metric `cost`.

  Raises:
    UserError: the options do not fit together or to the problem.
  """
  swept = problem.hyper if isinstance(problem.hyper, Mapping) else {}
  weighted = WEIGHT in swept or options.cost_weight > 0
  if options.cost is None:
    _require_cost(swept)
    return problem
  cost = _cost_named(options.cost, problem)
  if not weighted:
    if TARGET in swept or options.cost_target is not None:
      raise UserError(f"`{TARGET}` needs `{WEIGHT}`: set a weight above 0, for example 0.1")
    return problem
  for player in problem.players:
    if not player.relaxed:
      raise UserError(
        f"`search.cost`: the losses of player {player.name!r} receive alpha; write them for mixing weights, "
        "and set relaxed=True"
      )

  def penalty(expected: jax.Array, hyper: Any) -> jax.Array:
    numbers = hyper if isinstance(hyper, Mapping) else {}
    weight, target = numbers.get(WEIGHT, options.cost_weight), numbers.get(TARGET, options.cost_target)
    return weight * (expected if target is None else jax.nn.relu(expected / target - 1))

  return dataclasses.replace(problem, players=[_priced(player, cost, penalty) for player in problem.players])


def _priced(player: Player, cost: Cost, penalty: Callable[[jax.Array, Any], jax.Array]) -> Player:
  """The player with the penalty in its outer loss."""

  def problem(all_weights: Any, all_shares: Any, hyper: Any) -> BilevelProblem:
    inner, outer = player.given_problem(all_weights, all_shares, hyper)

    @functools.wraps(outer)
    def outer_and_cost(weights: Any, shares: Any, batch: Any, **key: jax.Array) -> tuple[jax.Array, dict]:
      loss, metrics = loss_and_metrics(outer(weights, shares, batch, **key))
      expected = cost(player.merge(all_shares, shares))
      return loss + penalty(expected, hyper), {**metrics, "cost": expected}

    return BilevelProblem(inner, outer_and_cost)

  return dataclasses.replace(player, problem=problem)


def _cost_named(name: str, problem: SearchProblem) -> Cost:
  if name not in problem.costs:
    known = ", ".join(problem.costs) or "none"
    raise UserError(f"`search.cost` {name!r} is unknown{perhaps_meant(name, problem.costs)} (known: {known})")
  return problem.costs[name]


def _require_cost(swept: Mapping[str, Any]) -> None:
  for path in (WEIGHT, TARGET):
    if path in swept:
      raise UserError(f"`{path}` needs `search.cost`: name a cost")
