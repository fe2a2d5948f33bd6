"""Time of a search step by method, compared with plain softmax and the same hypergradient, in turns.

    python -m benchmarks.speed.search_methods --json benchmarks/results/search_methods.json

Two problems: RUAS by configs/tiny.py, and the classifier of `ruas_jax.search_spaces.digits` on random data. Methods
whose step is another method's, because they differ in the selection or in the early stop, are left out.
"""

import time

import jax
import numpy as np
import optax

from benchmarks.limits import measure_machine
from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.speed.search_step import Problem, Runner, problem_of, step_of
from ruas_jax import nas
from ruas_jax.config import Config, load_config
from ruas_jax.engine.feed import open_feed
from ruas_jax.engine.sources import as_source
from ruas_jax.nas.data import readings_of
from ruas_jax.nas.methods import METHODS
from ruas_jax.nas.setting import make_setting
from ruas_jax.search_spaces.digits import SPACE

STEPPING = ("snas", "gdas", "drnas", "pc_darts", "fair_darts", "beta_darts", "smooth_darts", "reinmax", "sparse_darts")
_STEPS = {"tiny": 5, "classifier": 50}  # in one call of the program
_IMAGES, _BATCH = 512, 64


def classifier(method: str, **parts) -> Problem:
  """The search of the digits' classifier on random data."""
  problem, options = SPACE.problem(), nas.SearchOptions(method=method, **parts)
  setting = make_setting(problem, options, optax.sgd(1e-5), optax.adam(1e-3))  # larger steps diverge on random labels
  rng = np.random.default_rng(0)

  def data():
    images = rng.normal(size=(_IMAGES, 64)).astype(np.float32)
    return as_source("data", {"image": images, "label": rng.integers(0, 10, _IMAGES)})

  feed = open_feed(readings_of(problem, options, data(), data(), batch_size=_BATCH, seed=0), placement="device")
  state = jax.jit(setting.init)(jax.random.key(0))
  return Problem(Config(), tuple(problem.players), state, step_of(setting), feed)


def tiny(method: str, **options) -> Problem:
  """The search of configs/tiny.py."""
  chosen = {"search.method": method} | {f"search.{name}": value for name, value in options.items()}
  return problem_of(load_config("tiny").with_overrides({"data.train": "builtin"} | chosen))


PROBLEMS = {"tiny": tiny, "classifier": classifier}


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  jax.config.update("jax_enable_compilation_cache", False)
  repeats, methods = (2, STEPPING[:2]) if arguments.quick else (12, STEPPING)
  rows = [row for name in PROBLEMS for row in rows_of(name, methods, repeats)]
  print_table(rows, "a step of a search by method")
  write_report(
    arguments.json,
    settings={"repeats": repeats, "steps": _STEPS, "quick": arguments.quick},
    results={"rows": rows, "machine": measure_machine()._asdict()},
    bars=bars_of(rows),
  )


def bars_of(rows: list[dict]) -> dict[str, float]:
  """The largest ratio of each problem; that of the adversarial perturbation, which takes seven more gradients, is
  separate."""
  bars = {}
  for row in rows:
    name = "adversarial" if row["method"].endswith("adversarial") else "method"
    name += f"_times_softmax_{row['problem']}"
    bars[name] = max(bars.get(name, 0.0), row["times_softmax"])
  return bars


def rows_of(name: str, methods: tuple[str, ...], repeats: int) -> list[dict]:
  """One row for each method; the ratio is the median of those of the turns."""
  ways = {method: (method, {}) for method in ("first_order_darts", *methods)}
  ways["smooth_darts, adversarial"] = ("smooth_darts", {"perturbation": "adversarial"})
  if name == "classifier":  # one exact method too, since an exact round of tiny compiles slowly
    ways |= {f"{method}, exact": (method, {"hypergradient": "unrolled"}) for method in ("darts", "gdas", "drnas")}
  runners, seconds = {}, {way: [] for way in ways}
  for way, (method, options) in ways.items():
    runners[way] = Runner(PROBLEMS[name](method, **options))
    print(f"{name}, {way}: compiled in {runners[way].compile():.1f} s", flush=True)
  print(f"{name}: {repeats} turns", flush=True)
  for turn in range(repeats + 1):
    for way, run in runners.items():
      start = time.perf_counter()
      run(_STEPS[name])
      if turn:  # the first call touches new memory
        seconds[way].append((time.perf_counter() - start) / _STEPS[name])
  rows = []
  for way, (method, options) in ways.items():
    hypergradient = options.get("hypergradient", METHODS[method].parts.hypergradient)
    base = "darts, exact" if hypergradient == "unrolled" else "first_order_darts"
    ratio = float(np.median(np.array(seconds[way]) / np.array(seconds[base])))
    rows.append(
      {"problem": name, "method": way, "milliseconds": 1e3 * float(np.median(seconds[way])), "times_softmax": ratio}
    )
  return rows


if __name__ == "__main__":
  main()
