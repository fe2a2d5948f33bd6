"""The parts of a search's method in one step. They are functions of the options, of `hyper` and of the step in the
state, so that a resumed run has the same ones."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ruas_jax.bilevel import split_inexact
from ruas_jax.errors import UserError
from ruas_jax.nas.cost import CostTerm, cost_term
from ruas_jax.nas.methods import Parts
from ruas_jax.nas.options import SearchOptions, at_hyper, limits_of
from ruas_jax.nas.problem import Player, SearchProblem
from ruas_jax.nas.regularisers import TERMS
from ruas_jax.nas.relaxation import KINDS, Number, PartialChannels, Relaxation
from ruas_jax.option_values import perhaps_meant


class Penalty(NamedTuple):
  """What is added to the outer loss of a player: the regularisers of its alpha, and the cost.

  Attributes:
    values: `alpha of the player -> {name: []}`, of each regulariser and of the cost, without the weights.
    weights: weight of each regulariser in this step.
    cost: weight and target of the cost; None: there is none.
  """

  values: Callable[[Any], dict[str, jax.Array]]
  weights: dict[str, Number]
  cost: CostTerm | None = None

  def __call__(self, alpha: Any) -> tuple[Any, dict[str, jax.Array]]:
    """The weighted sum, and the values."""
    values = self.values(alpha)
    total = sum(weight * values[name] for name, weight in self.weights.items())
    return total + (self.cost(values[self.cost.metric]) if self.cost else 0), values

  def with_gradient(self, alpha: Any) -> tuple[jax.Array, Any, dict[str, jax.Array]]:
    """The weighted sum, its gradient with None for constant leaves, and the values."""
    floating, merge = split_inexact(alpha)
    (total, values), gradient = jax.value_and_grad(lambda floating: self(merge(floating)), has_aux=True)(floating)
    return total, gradient, values


class Moment(NamedTuple):
  """Attributes:
  relaxation: how alpha becomes mixing weights.
  weights: weights of the regularisers, by name.
  alpha_moves: bool `[]`, whether the warm-up is over; True: there is none.
  cost: the cost in the outer losses, which has no ramp; None: there is none.
  """

  relaxation: Relaxation
  weights: dict[str, Number]
  alpha_moves: jax.Array | bool
  cost: CostTerm | None = None

  def penalty(self, problem: SearchProblem, player: Player, alpha: Any) -> Penalty | None:
    """What is added to the player's outer loss, a function of its part of `alpha`; None: nothing."""
    if not (self.weights or self.cost):
      return None

    def values(own):
      found = {name: TERMS[name](own) for name in self.weights}
      if self.cost:
        found[self.cost.metric] = problem.costs[self.cost.name](self.relaxation.mean(player.merge(alpha, own)))
      return found

    return Penalty(values, self.weights, self.cost)


def moment(problem: SearchProblem, options: SearchOptions, step: jax.Array, hyper: Any) -> Moment:
  """The parts in this step (`[]` int32)."""
  parts, weights = at_hyper(options.parts, hyper)
  done = jnp.minimum(step / options.steps, 1) if parts.scheduled else 0.0
  if parts.ramp:
    weights = {name: weight * jnp.minimum(done / parts.ramp, 1) for name, weight in weights.items()}
  alpha_moves = done >= parts.warm_up if parts.warm_up else True
  kind = KINDS["straight_through" if parts.straight_through else parts.relaxation]
  relaxation = Relaxation(
    kind,
    _temperature(parts, done),
    _partial(problem, parts),
    parts.perturbation,
    0.0 if parts.perturbation == "none" else parts.perturbation_size * done,
  )
  return Moment(relaxation, weights, alpha_moves, cost_term(options, hyper))


def _temperature(parts: Parts, done: Number) -> Number:
  first, last = parts.temperature, parts.final_temperature
  if isinstance(last, int | float) and last == 0:
    return first
  return first + (last - first) * done if parts.annealing == "linear" else first * (last / first) ** done


def _partial(problem: SearchProblem, parts: Parts) -> PartialChannels | None:
  if parts.partial_channels == 1:
    return None
  leaves = jax.tree.leaves_with_path(problem.channels)
  assert problem.skip is not None  # checked by `check_method`
  return PartialChannels(
    parts.partial_channels, {jax.tree_util.keystr(path): int(count) for path, count in leaves}, problem.skip
  )


def check_method(problem: SearchProblem, options: SearchOptions) -> None:
  """Raises UserError where the problem does not have what a part of the method needs."""
  parts, weights = at_hyper(options.parts, problem.hyper)
  needs = {
    "search.relaxation": parts.relaxation != "softmax",
    "search.temperature": parts.temperature != 1 or bool(parts.final_temperature),
    "search.partial_channels": parts.partial_channels > 1,
    "search.perturbation": parts.perturbation != "none",
    "search.regularisers": bool(weights),
    "search.selection": parts.selection != "argmax",
    "search.stop": parts.stop == "skips",
    "search.cost": cost_term(options, problem.hyper) is not None,
  }
  first = next((name for name, needed in needs.items() if needed), None)
  for player in problem.players:
    if first and not player.relaxed:
      raise UserError(
        f"`{first}` needs mixing weights, but player {player.name!r} is not relaxed: let its losses take mixing "
        "weights in the place of alpha, and set relaxed=True"
      )
  swept = problem.hyper if isinstance(problem.hyper, Mapping) else {}
  unused = {
    "search.temperature": parts.relaxation == "dirichlet",
    "search.perturbation_size": parts.perturbation == "none",
  }
  for name, is_unused in unused.items():
    if name in swept and is_unused:
      raise UserError(f"`sweep` {name}: this method does not use it; choose another method, or leave it out")
  if parts.partial_channels > 1 and (problem.channels is None or problem.skip is None):
    raise UserError(
      f"`search.partial_channels` {parts.partial_channels}: this problem has no channels to choose from (its "
      "channels or skip is None)"
    )
  if parts.stop == "skips" and problem.skip is None:
    raise UserError("`search.stop` skips: this problem has no operation that passes its input on (its skip is None)")
  for cost in limits_of(parts):
    if cost not in problem.costs:
      known, meant = ", ".join(problem.costs) or "none", perhaps_meant(cost, problem.costs)
      raise UserError(f"`search.budget` {cost}: the problem has no such cost; it has {known}{meant}")
