"""One round of `configs/lol.py` in all layouts and precisions: both modules, exact hypergradients."""

from benchmarks.speed.accelerator.part import Figures, Part
from benchmarks.speed.accelerator.ways import in_way, ways
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
  for way in ways()[:1] if part.quick else ways():
    part.measure({"crop": config.data.crop, **way}, lambda: round_figures(part, problem_of(in_way(config, way))))


def round_figures(part: Part, problem: Problem) -> Figures:
  """Seconds of a round and of compiling it."""
  runner = Runner(problem)
  compile_seconds = runner.compile()
  figures = part.median_seconds({"ours": lambda: runner(_ROUNDS)})
  return {
    "seconds": figures["ours"] / _ROUNDS,
    "compile_seconds": compile_seconds,
    "repeats": figures["repeats"],
  }
