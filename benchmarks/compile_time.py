"""Seconds to compile one round of the search (IEM and NRM) in a new process without a cache.

python -m benchmarks.compile_time --json benchmarks/results/compile_time.json
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


def measure() -> None:
  """Runs in the new process: prints the seconds as JSON."""
  import jax

  from ruas_jax.architecture_search.options import SearchOptions
  from ruas_jax.architecture_search.state import init_state
  from ruas_jax.architecture_search.step import make_search_step
  from ruas_jax.architecture_search.strategies import make_players
  from ruas_jax.objectives import make_objectives
  from ruas_jax.optimizers import make_optimizer
  from ruas_jax.retinex.network import build_network

  options, network = SearchOptions(), build_network()
  players = make_players(options, make_objectives(network), beta=1.0)
  weight_optimizer, alpha_optimizer = make_optimizer(options.weight_optimizer), make_optimizer(options.alpha_optimizer)
  state = init_state(network, players, weight_optimizer, alpha_optimizer, jax.random.key(0))
  step = jax.jit(make_search_step(players, options, weight_optimizer, alpha_optimizer, crop=_SIZE), donate_argnums=0)
  batch = {"image": np.zeros((1, 1, _SIZE, _SIZE, 3), np.uint8), "size": np.full((1, 1, 2), _SIZE, np.int32)}
  start = time.perf_counter()
  traced = step.trace(state, batch, batch, jax.random.key(1))
  after_trace = time.perf_counter()
  lowered = traced.lower()
  after_lower = time.perf_counter()
  lowered.compile()
  end = time.perf_counter()
  print(json.dumps({"trace": after_trace - start, "lower": after_lower - after_trace, "compile": end - after_lower}))


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  repeats = 1 if arguments.quick else 3
  rows = []
  for _ in range(repeats):
    with tempfile.TemporaryDirectory() as cache:
      command = [sys.executable, "-c", "from benchmarks.compile_time import measure; measure()"]
      environment = {"JAX_COMPILATION_CACHE_DIR": cache}
      result = subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True)
    seconds = json.loads(result.stdout.splitlines()[-1])
    rows.append(seconds | {"total": sum(seconds.values())})
  print_table(rows, "seconds to compile one round of the search")
  write_report(
    arguments.json,
    settings={"size": _SIZE, "batch": 1, "repeats": repeats, "quick": arguments.quick},
    results=rows,
    bars={"search_step_compile_seconds": float(np.median([row["total"] for row in rows]))},
  )


if __name__ == "__main__":
  main()
