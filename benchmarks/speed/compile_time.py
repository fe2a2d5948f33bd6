"""Time to compile a search step in a new process: with an empty cache, and again with the filled cache.

    python -m benchmarks.speed.compile_time --json benchmarks/results/compile_time.json

A search step is that of the illumination module at 320x320. A whole round adds that of the noise removal module. The
time includes tracing, lowering and compiling, but not importing.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks.report import argument_parser, print_table, write_report

_SIZE = 320
_MODULES = {"step": ("illumination",), "round": ("illumination", "denoising")}


def measure(name: str) -> None:
  """Runs in the new process. Prints the seconds as JSON."""
  import jax

  from benchmarks.speed.search_step import build_problem
  from ruas_jax.engine.device_loop import Run, make_program

  problem = build_problem(_SIZE, _MODULES[name])
  run = Run(problem.state, jax.numpy.ones((), bool))
  arguments = run, problem.feed.data, problem.feed.read(1), np.int32(1), jax.random.key(1)
  start = time.perf_counter()
  traced = make_program(problem.step, problem.feed).trace(*arguments)
  after_trace = time.perf_counter()
  lowered = traced.lower()
  after_lower = time.perf_counter()
  lowered.compile()
  end = time.perf_counter()
  print(json.dumps({"trace": after_trace - start, "lower": after_lower - after_trace, "compile": end - after_lower}))


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  repeats = 1 if arguments.quick else 3
  names = ["step"] * repeats + ["round"] * (not arguments.quick)
  rows = []
  for name in names:
    with tempfile.TemporaryDirectory() as cache:
      for state in ("cold", "cached"):
        command = [sys.executable, "-c", f"from benchmarks.speed.compile_time import measure; measure({name!r})"]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
        result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        seconds = json.loads(result.stdout.splitlines()[-1])
        rows.append({"program": name, "cache": state} | seconds | {"total": sum(seconds.values())})
  print_table(rows, "seconds to compile")
  median = lambda cache: float(
    np.median([row["total"] for row in rows if row["program"] == "step" and row["cache"] == cache])
  )
  write_report(
    arguments.json,
    settings={"size": _SIZE, "batch": 1, "repeats": repeats, "quick": arguments.quick},
    results=rows,
    bars={"search_step_compile_seconds": median("cold"), "search_step_cached_compile_seconds": median("cached")},
  )


if __name__ == "__main__":
  main()
