"""The effect of `network.precision` on the hypergradient, compared with float64; and the time that it saves.

The state is that of `configs/lol.py` after some rounds, so that Adam's averages are not zero. On a CPU all precisions
are float32.
"""

from typing import get_args

import jax
import numpy as np

from benchmarks.precision.hypergradient import errors, hypergradient_terms, in_numbers
from benchmarks.speed.accelerator.part import Figures, Part, compiled
from benchmarks.speed.accelerator.search_round import lol_config
from benchmarks.speed.search_step import MODULES, Problem, Runner, problem_of
from ruas_jax.bilevel.diagnostics import Decomposition
from ruas_jax.config import Config
from ruas_jax.lowlight.options import Precision
from ruas_jax.nas.state import SearchState

_ROUNDS = 20  # before the hypergradient is measured


def measure(part: Part) -> None:
  problem = problem_of(_config(part, "exact"))
  state = jax.device_get(problem.state) if part.quick else _state_after(problem, _ROUNDS)
  for module in MODULES[:1] if part.quick else MODULES:
    part.measure({"module": module}, lambda: _deviations(part, problem, state, module))


def _config(part: Part, precision: Precision) -> Config:
  return lol_config(part.quick).with_overrides({"network.precision": precision})


def _state_after(problem: Problem, rounds: int) -> SearchState:
  runner = Runner(problem)
  runner(rounds)
  return jax.device_get(runner.state)


def _deviations(part: Part, problem: Problem, state: SearchState, module: str) -> list[Figures]:
  with jax.enable_x64(True):
    reference, *_ = _terms(part, problem, state, module, "exact", np.float64)
  rows = []
  for precision in get_args(Precision):
    terms, seconds, compile_seconds = _terms(part, problem, state, module, precision, np.float32)
    rows.append(
      {"precision": precision, "seconds": seconds, "compile_seconds": compile_seconds} | errors(terms, reference)
    )
  return rows


def _terms(
  part: Part, problem: Problem, state: SearchState, module: str, precision: Precision, dtype: type
) -> tuple[Decomposition, float, float]:
  """The hypergradient's terms in these numbers, the seconds that they take, and those of compiling."""
  size = problem.config.data.crop
  crops = [np.asarray(pool["image"])[:1, :size, :size] / 255 for pool in problem.feed.data]
  arguments = in_numbers((state, *crops), dtype)
  program, compile_seconds = compiled(hypergradient_terms(_config(part, precision), module), *arguments)
  seconds = part.median_seconds({"terms": lambda: jax.block_until_ready(program(*arguments))}, seconds=1.0)["terms"]
  return jax.device_get(program(*arguments)), seconds, compile_seconds
