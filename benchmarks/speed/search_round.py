"""Time of one round of a search, exact and first-order in turns, and what the two compute.

    python -m benchmarks.speed.search_round --json benchmarks/results/search_round.json

A round updates alpha and the weights of both modules. The operations are those of the convolutions that the compiled
program calls, so that work which the compiler has removed is not counted.
"""

import re
import time

import jax
import numpy as np

from benchmarks.limits import measure_machine
from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.speed.search_step import Runner, problem_of
from ruas_jax.config import load_config
from ruas_jax.convolution import native

SIDES = {"exact": "unrolled", "first-order": "first_order"}
_STEPS = 20  # in one call of the program, about as in a search


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  if not native.form().native:
    raise SystemExit(f"search_round counts calls of the compiled convolution, which is not used here: {native.form()}")
  jax.config.update("jax_enable_compilation_cache", False)
  repeats = 2 if arguments.quick else 15
  machine = measure_machine()
  rows = [row for name in ("tiny",) + (() if arguments.quick else ("lol",)) for row in rows_of(name, repeats, machine)]
  print_table(rows, "a round of the search")
  exact, first_order = (row["milliseconds"] for row in rows[:2])
  write_report(
    arguments.json,
    settings={"repeats": repeats, "steps": _STEPS, "quick": arguments.quick},
    results={"rows": rows, "machine": machine._asdict()},
    bars={"round_milliseconds": exact, "exact_times_first_order": exact / first_order},
  )


def rows_of(name: str, repeats: int, machine) -> list[dict]:
  """One row for each side; the medians are of calls that take turns."""
  config = load_config(name).with_overrides({"data.train": "builtin"})
  runners, rows = {}, []
  for side, hypergradient in SIDES.items():
    runners[side] = Runner(problem_of(config.with_overrides({"search.hypergradient": hypergradient})))
    compile_seconds = runners[side].compile()
    operations, calls = count_calls(runners[side].text)
    rows.append(
      {"config": name, "side": side, "compile_seconds": compile_seconds, "calls": calls, "operations": operations}
    )
  seconds = {side: [] for side in SIDES}
  for turn in range(repeats + 1):
    for side, run in runners.items():
      start = time.perf_counter()
      run(_STEPS)
      if turn:  # the first call touches new memory
        seconds[side].append((time.perf_counter() - start) / _STEPS)
  for row in rows:
    median = float(np.median(seconds[row["side"]]))
    row |= {"milliseconds": 1e3 * median, "share_of_limit": row["operations"] / machine.operations / median}
  return rows


def count_calls(text: str) -> tuple[float, int]:
  """Operations and number of the calls to compiled convolutions in a program whose loops have one iteration."""
  shape_of = {name: sizes(shape) for name, shape in re.findall(r"%([\w.\-]+) = \w+\[([\d,]*)\]", text)}
  operations = calls = 0
  # The first result and the operands; the gradient of a bias may be a second result.
  pattern = r"= \(?\w+\[([\d,]*)\].* custom-call\(([^)]*)\), custom_call_target=\"(ruas_\w+)\""
  for result, operands, target in re.findall(pattern, text):
    shapes = [shape_of[name] for name in re.findall(r"%([\w.\-]+)", operands)]
    # parts [G, B, C, H, W], then the kernel [G, T, O, C]; or image and cotangent, and the result is like a kernel
    kernel = next(shape for shape in shapes if len(shape) == 4) if target == "ruas_convolve" else sizes(result)
    _, images, _, height, width = shapes[0]
    operations += 2 * int(np.prod(kernel)) * images * height * width
    calls += 1
  return float(operations), calls


def sizes(text: str) -> list[int]:
  return [int(size) for size in text.split(",") if size]


if __name__ == "__main__":
  main()
