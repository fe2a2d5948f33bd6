"""Rounds of `configs/lol.py` for a population, with all members in one program."""

from benchmarks.speed.accelerator.part import Part
from benchmarks.speed.accelerator.search_round import lol_config, round_figures
from benchmarks.speed.search_step import MODULES, problem_of

_MEMBERS = (16, 64, 4, 1)  # the most important first; each is compiled separately


def measure(part: Part) -> None:
  problem = problem_of(lol_config(part.quick), MODULES[:1] if part.quick else MODULES)
  for members in (2,) if part.quick else _MEMBERS:
    part.measure({"members": members}, lambda: round_figures(part, problem, members))
