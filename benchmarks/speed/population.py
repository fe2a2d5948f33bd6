"""Member-steps per second of a population compared with a single search, in turns; and equality of their results.

python -m benchmarks.speed.population --json benchmarks/results/population.json
"""

import time

import jax
import numpy as np

from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.speed.search_step import Runner, build_problem, dark_images, search_config
from ruas_jax.engine.mesh import one_cpu_device_per_core
from ruas_jax.experiments.population import search_population
from ruas_jax.experiments.search import search
from ruas_jax.sweep import PopulationOptions

MEMBERS = 4
_STEPS = {64: 40, 320: 4}  # steps in a call of a single search; a population takes a quarter
_COMPARED = 20  # steps after which members are compared with single searches


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  jax.config.update("jax_enable_compilation_cache", False)
  one_cpu_device_per_core()
  repeats = 2 if arguments.quick else 7
  speed = [speed_row(size, repeats) for size in ((64,) if arguments.quick else (64, 320))]
  print_table(speed, "member-steps per second")
  equality = [equality_row(dtype, 2 if arguments.quick else _COMPARED) for dtype in ("float64", "float32")]
  print_table(equality, "a member against its search alone")
  write_report(
    arguments.json,
    settings={
      "members": MEMBERS,
      "devices": jax.local_device_count(),
      "repeats": repeats,
      "module": "illumination",
      "quick": arguments.quick,
    },
    results={"speed": speed, "equality": equality},
    bars={
      "population_64_speed_up": speed[0]["speed_up"],
      "population_member_difference": equality[0]["largest_relative_difference"],
    },
  )


def speed_row(size: int, repeats: int) -> dict:
  problem = build_problem(size, ("illumination",), "mixed_mode")
  alone, together = Runner(problem), Runner(problem, MEMBERS)
  steps = {"alone": _STEPS[size], "together": _STEPS[size] // MEMBERS}
  seconds = {"alone": [], "together": []}
  for repeat in range(repeats + 1):
    for name, run in (("alone", alone), ("together", together)):
      start = time.perf_counter()
      run(steps[name])
      if repeat:  # the first one compiles
        seconds[name].append((time.perf_counter() - start) / steps[name])
  solo, all_members = (float(np.median(seconds[name])) for name in ("alone", "together"))
  return {
    "size": size,
    "members": MEMBERS,
    "seconds_alone": solo,
    "seconds_together": all_members,
    "member_steps_per_second": MEMBERS / all_members,
    "speed_up": MEMBERS * solo / all_members,
  }


def equality_row(dtype: str, steps: int) -> dict:
  """Two seeds times two values of eta_t: largest differences of alpha and weights, relative to each array's largest
  number."""
  with jax.enable_x64(dtype == "float64"):
    config = search_config(32, "mixed_mode").with_overrides(
      {"search.steps": steps, "loss.illumination": "paper", "loss.denoising": "paper"}
    )
    images = {"train_images": dark_images(32, 0), "val_images": dark_images(32, 1)}
    together = search_population(config, PopulationOptions(seeds=2, sweep=("loss.eta_t=0.1,0.3",)), **images)
    differences = {"alpha": 0.0, "weights": 0.0}
    for position in (0, MEMBERS - 1):
      alone = search(together.members[position].config, **images).state
      for name in differences:
        pairs = zip(
          jax.tree.leaves(getattr(together.results[position].state, name)),
          jax.tree.leaves(getattr(alone, name)),
          strict=True,
        )
        differences[name] = max(differences[name], *(relative_difference(*pair) for pair in pairs))
    kind = jax.tree.leaves(alone.weights)[0].dtype
    if kind != dtype:
      raise RuntimeError(f"the search ran in {kind}, not {dtype}")
  return {"dtype": dtype, "steps": steps} | differences | {"largest_relative_difference": max(differences.values())}


def relative_difference(first, second) -> float:
  first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
  scale = np.abs(second).max()
  return float(np.abs(first - second).max() / scale) if scale else float(np.abs(first).max())


if __name__ == "__main__":
  main()
