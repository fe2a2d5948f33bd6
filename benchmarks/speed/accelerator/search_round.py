"""One round of `configs/lol.py`: both modules, exact hypergradients."""

from benchmarks.speed.accelerator.part import Figures, Part
from benchmarks.speed.search_step import Problem, Runner, problem_of, resized
from ruas_jax.config import Config, load_config

_ROUNDS = 10  # in a call


def lol_config(quick: bool) -> Config:
  """The recorded configuration. The quick version is small, and uses first-order, which compiles twice as fast."""
  config = load_config("lol")
  if not quick:
    return config
  return resized(config, stages=1, crop=16).with_overrides({"search.hypergradient": "first_order"})


def measure(part: Part) -> None:
  config = lol_config(part.quick)
  part.measure({"crop": config.data.crop}, lambda: round_figures(part, problem_of(config)))


def round_figures(part: Part, problem: Problem, members: int | None = None) -> Figures:
  """Seconds of a round, for all members together, and of compiling it."""
  runner = Runner(problem, members)
  compile_seconds = runner.compile()
  figures = part.median_seconds({"ours": lambda: runner(_ROUNDS)})
  return {
    "seconds": figures["ours"] / _ROUNDS,
    "member_rounds_per_second": (members or 1) * _ROUNDS / figures["ours"],
    "compile_seconds": compile_seconds,
    "repeats": figures["repeats"],
  }
