"""The paper's search, 20 epochs of 689 steps at 320x320, extrapolated from 500 steps in a row."""

from benchmarks.speed.accelerator.part import Part
from benchmarks.speed.accelerator.search_step import step_problem
from benchmarks.speed.accelerator.ways import ways
from benchmarks.speed.search_step import Runner, extrapolated_search

_IN_CALL = 100  # the most that the package takes in one call


def measure(part: Part) -> None:
  size, steps, in_call = (16, 4, 2) if part.quick else (320, 500, _IN_CALL)
  for way in ways(("exact", "fast"))[: 1 if part.quick else None]:
    part.measure(
      {"size": size, **way}, lambda: extrapolated_search(Runner(step_problem(part, size, way)), steps, in_call)
    )
