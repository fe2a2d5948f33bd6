"""The strategies of RUAS's search. Each is a tuple of players, and a player is one bilevel problem (eqs. 4-6).

- cooperative: the illumination player has the inner loss L_t and the outer loss L_t + beta L_n. The denoising player
  moves after the illumination's update, with L_n as inner and outer loss.
- separate: the same two players with beta = 0; first only the illumination moves, then only the denoising, for half of
  the steps each.
- joint: one player with all weights and all alpha, and L_t + beta L_n as inner and outer loss.
"""

from collections.abc import Callable
from typing import Any

from jax import lax

from ruas_jax.bilevel import BilevelProblem
from ruas_jax.lowlight.numbers import is_zero
from ruas_jax.lowlight.objectives import Objectives
from ruas_jax.lowlight.search_options import RUASSearchOptions
from ruas_jax.nas.problem import MakeProblem, Player

LossesOf = Callable[[Any], tuple[Objectives, Any]]
"""`hyper -> (objectives, beta)` for the swept numbers."""


def make_players(options: RUASSearchOptions, losses_of: LossesOf) -> tuple[Player, ...]:
  """The players of `options.strategy`, in the order of their updates."""

  def player(name, problem, length, modules=None, active=None):
    return Player(name, problem, modules or (name,), length, active, tolerance, relaxed=True)

  def tolerance(hyper):
    return hyper.get("search.tolerance", options.tolerance)

  of_illumination, of_denoising = options.illumination_length, options.denoising_length
  denoising = _denoising_problem(losses_of)
  if options.strategy == "joint":
    return (player("joint", _joint_problem(losses_of), of_illumination, ("illumination", "denoising")),)
  if options.strategy == "separate":
    half = options.steps // 2
    alone = _illumination_problem(losses_of, cooperative=False)
    return (
      player("illumination", alone, of_illumination, active=lambda step: step < half),
      player("denoising", denoising, of_denoising, active=lambda step: step >= half),
    )
  look_ahead = options.cooperation == "equation_5"
  cooperative = _illumination_problem(losses_of, cooperative=True, look_ahead=look_ahead)
  return player("illumination", cooperative, of_illumination), player("denoising", denoising, of_denoising)


def _illumination_problem(losses_of: LossesOf, *, cooperative: bool, look_ahead: bool = True) -> MakeProblem:
  def problem(all_weights, all_shares, hyper):
    objectives, beta = losses_of(hyper)

    def inner(weights, shares, images):
      return objectives.illumination(weights["illumination"], shares["illumination"], images)[0]

    def outer(weights, shares, images):
      loss, illuminated = objectives.illumination(weights["illumination"], shares["illumination"], images)
      if not cooperative or is_zero(beta):
        return loss
      if not look_ahead:
        _, illuminated = objectives.illumination(all_weights["illumination"], shares["illumination"], images)
      return loss + beta * objectives.denoising(all_weights["denoising"], all_shares["denoising"], illuminated)

    return BilevelProblem(inner, outer)

  return problem


def _denoising_problem(losses_of: LossesOf) -> MakeProblem:
  def problem(all_weights, all_shares, hyper):
    objectives, _ = losses_of(hyper)

    def loss(weights, shares, images):
      _, illuminated = objectives.illumination(all_weights["illumination"], all_shares["illumination"], images)
      return objectives.denoising(weights["denoising"], shares["denoising"], lax.stop_gradient(illuminated))

    return BilevelProblem(loss, loss)

  return problem


def _joint_problem(losses_of: LossesOf) -> MakeProblem:
  def problem(all_weights, all_shares, hyper):
    del all_weights, all_shares
    objectives, beta = losses_of(hyper)

    def loss(weights, shares, images):
      illumination, illuminated = objectives.illumination(weights["illumination"], shares["illumination"], images)
      return illumination + beta * objectives.denoising(weights["denoising"], shares["denoising"], illuminated)

    return BilevelProblem(loss, loss)

  return problem
