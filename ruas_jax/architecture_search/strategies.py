"""Who plays in a search: each strategy is a tuple of players, and a player is one bilevel problem (eqs. 4-6).

- cooperative: illumination has L_t inside and L_t + beta L_n outside; denoising, after the illumination's update, has
  L_n inside and outside.
- separate: the same two without beta; first the illumination alone, then the denoising behind it, half the steps each.
- joint: one player has all weights and all of alpha, with L_t + beta L_n inside and outside.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ruas_jax.architecture_search.options import SearchOptions
from ruas_jax.bilevel import BilevelProblem
from ruas_jax.objectives import Objectives


class Player(NamedTuple):
  """One bilevel problem of a round.

  Attributes:
    name: key of its optimiser states and metrics.
    modules: whose weights and alpha it moves.
    problem: `(all weights, all alpha) -> BilevelProblem` over `{module: ...}` of its own; the others' are constants.
    length: `step -> ` most iterations of its inner loop in that round; `[]` int32 if it varies, else int.
  """

  name: str
  modules: tuple[str, ...]
  problem: Callable[[dict, dict], BilevelProblem]
  length: Callable[[jax.Array], int | jax.Array]

  def pick(self, tree: dict[str, Any]) -> dict[str, Any]:
    """Its own entries."""
    return {name: tree[name] for name in self.modules}


def make_players(options: SearchOptions, objectives: Objectives, beta: float) -> tuple[Player, ...]:
  """The players of `options.strategy`, in the order in which they move."""
  lengths = {"illumination": options.illumination_length, "denoising": options.denoising_length}

  def throughout(module):
    return lambda step: lengths[module]

  def one_half(module, second):
    return lambda step: jnp.where((step >= options.steps // 2) == second, lengths[module], 0)

  denoising = _denoising_problem(objectives)
  if options.strategy == "joint":
    return (
      Player("joint", ("illumination", "denoising"), _joint_problem(objectives, beta), throughout("illumination")),
    )
  if options.strategy == "separate":
    alone = _illumination_problem(objectives, 0.0, look_ahead=True)
    return (
      Player("illumination", ("illumination",), alone, one_half("illumination", second=False)),
      Player("denoising", ("denoising",), denoising, one_half("denoising", second=True)),
    )
  cooperative = _illumination_problem(objectives, beta, look_ahead=options.cooperation == "equation_5")
  return (
    Player("illumination", ("illumination",), cooperative, throughout("illumination")),
    Player("denoising", ("denoising",), denoising, throughout("denoising")),
  )


def _illumination_problem(objectives: Objectives, beta: float, *, look_ahead: bool):
  def problem(all_weights, all_alpha):
    def inner(weights, alpha, images):
      return objectives.illumination(weights["illumination"], alpha["illumination"], images)[0]

    def outer(weights, alpha, images):
      loss, lit = objectives.illumination(weights["illumination"], alpha["illumination"], images)
      if isinstance(beta, int | float) and beta == 0:  # a traced zero costs the work, and changes nothing else
        return loss
      if not look_ahead:
        _, lit = objectives.illumination(all_weights["illumination"], alpha["illumination"], images)
      return loss + beta * objectives.denoising(all_weights["denoising"], all_alpha["denoising"], lit)

    return BilevelProblem(inner, outer)

  return problem


def _denoising_problem(objectives: Objectives):
  def problem(all_weights, all_alpha):
    def loss(weights, alpha, images):
      _, lit = objectives.illumination(all_weights["illumination"], all_alpha["illumination"], images)
      return objectives.denoising(weights["denoising"], alpha["denoising"], lax.stop_gradient(lit))

    return BilevelProblem(loss, loss)

  return problem


def _joint_problem(objectives: Objectives, beta: float):
  def problem(all_weights, all_alpha):
    del all_weights, all_alpha

    def loss(weights, alpha, images):
      illumination, lit = objectives.illumination(weights["illumination"], alpha["illumination"], images)
      return illumination + beta * objectives.denoising(weights["denoising"], alpha["denoising"], lit)

    return BilevelProblem(loss, loss)

  return problem
