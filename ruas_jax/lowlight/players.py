"""The strategies of RUAS's search: each is a tuple of players, and a player is one bilevel problem (eqs. 4-6).

- cooperative: illumination has L_t inside and L_t + beta L_n outside; denoising, after the illumination's update, has
  L_n inside and outside.
- separate: the same two without beta; first the illumination alone, then the denoising behind it, half the steps each.
- joint: one player has all weights and all of alpha, with L_t + beta L_n inside and outside.
"""

from collections.abc import Callable
from typing import Any

from jax import lax

from ruas_jax.bilevel import BilevelProblem
from ruas_jax.lowlight.objectives import Objectives
from ruas_jax.lowlight.search_options import RUASSearchOptions
from ruas_jax.nas.problem import MakeProblem, Player

LossesOf = Callable[[Any], tuple[Objectives, Any]]
"""`hyper -> (objectives, beta)` of the swept numbers."""


def make_players(options: RUASSearchOptions, losses_of: LossesOf) -> tuple[Player, ...]:
  """The players of `options.strategy`, in the order in which they move."""

  def player(name, problem, length, modules=None, active=None):
    return Player(name, problem, modules or (name,), length, active)

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
  def problem(all_weights, all_alpha, hyper):
    objectives, beta = losses_of(hyper)

    def inner(weights, alpha, images):
      return objectives.illumination(weights["illumination"], alpha["illumination"], images)[0]

    def outer(weights, alpha, images):
      loss, lit = objectives.illumination(weights["illumination"], alpha["illumination"], images)
      if not cooperative or (isinstance(beta, int | float) and beta == 0):  # a traced zero costs the work
        return loss
      if not look_ahead:
        _, lit = objectives.illumination(all_weights["illumination"], alpha["illumination"], images)
      return loss + beta * objectives.denoising(all_weights["denoising"], all_alpha["denoising"], lit)

    return BilevelProblem(inner, outer)

  return problem


def _denoising_problem(losses_of: LossesOf) -> MakeProblem:
  def problem(all_weights, all_alpha, hyper):
    objectives, _ = losses_of(hyper)

    def loss(weights, alpha, images):
      _, lit = objectives.illumination(all_weights["illumination"], all_alpha["illumination"], images)
      return objectives.denoising(weights["denoising"], alpha["denoising"], lax.stop_gradient(lit))

    return BilevelProblem(loss, loss)

  return problem


def _joint_problem(losses_of: LossesOf) -> MakeProblem:
  def problem(all_weights, all_alpha, hyper):
    del all_weights, all_alpha
    objectives, beta = losses_of(hyper)

    def loss(weights, alpha, images):
      illumination, lit = objectives.illumination(weights["illumination"], alpha["illumination"], images)
      return illumination + beta * objectives.denoising(weights["denoising"], alpha["denoising"], lit)

    return BilevelProblem(loss, loss)

  return problem
