"""The exact search step of a population, with all members in one program, and of a single search, in turns."""

from benchmarks.speed.accelerator.part import Figures, Part
from benchmarks.speed.accelerator.search_step import step_problem
from benchmarks.speed.accelerator.ways import Way, ways
from benchmarks.speed.search_step import Runner

_MEMBERS = (16, 64)
_STEPS = 10  # in a call


def measure(part: Part) -> None:
  size = 16 if part.quick else 64
  for members in (2,) if part.quick else _MEMBERS:
    for way in ways(("exact",))[: 1 if part.quick else None]:
      part.measure({"size": size, "members": members, **way}, lambda: _figures(part, size, way, members))


def _figures(part: Part, size: int, way: Way, members: int) -> Figures:
  problem = step_problem(part, size, way)
  one, together = Runner(problem), Runner(problem, members)
  compile_seconds = together.compile()
  figures = part.median_seconds({"one": lambda: one(_STEPS), "together": lambda: together(_STEPS)})
  return {
    "seconds": figures["together"] / _STEPS,
    "seconds_of_one": figures["one"] / _STEPS,
    "times_one": figures["together"] / figures["one"],
    "compile_seconds": compile_seconds,
    "repeats": figures["repeats"],
  }
