"""Time of a search step by method, compared with plain softmax and the same hypergradient, in turns.

    python -m benchmarks.speed.search_methods --json benchmarks/results/search_methods.json

Two problems: RUAS by configs/tiny.py, and a classifier of four layers with four operations each on random data. Methods
whose step is another method's, because they differ in the selection or in the early stop, are left out.
"""

import time

import jax
import jax.numpy as jnp
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

STEPPING = ("snas", "gdas", "drnas", "pc_darts", "fair_darts", "beta_darts", "smooth_darts", "reinmax", "sparse_darts")
_STEPS = {"tiny": 5, "classifier": 50}  # in one call of the program
LAYERS, WIDTH, BATCH = 4, 48, 64
OPERATIONS = (
  lambda x, kernel: x,
  lambda x, kernel: x @ kernel,
  lambda x, kernel: jax.nn.relu(x @ kernel),
  lambda x, kernel: jnp.tanh(x @ kernel),
)


def classifier(method: str, **options) -> Problem:
  """The search of a small classifier on random data."""

  def init(key):
    keys = jax.random.split(key, 3)
    weights = {
      "stem": jax.random.normal(keys[0], (64, WIDTH)) / 8,
      "layers": jax.random.normal(keys[1], (LAYERS, WIDTH, WIDTH)) / np.sqrt(WIDTH),
      "head": jax.random.normal(keys[2], (WIDTH, 10)) / np.sqrt(WIDTH),
    }
    return weights, {"layers": jnp.zeros((LAYERS, len(OPERATIONS)))}

  def loss(weights, shares, batch):
    x = batch["x"] @ weights["stem"]
    for kernel, share in zip(weights["layers"], shares["layers"], strict=True):
      x = sum(weight * apply(x, kernel) for weight, apply in zip(share, OPERATIONS, strict=True))
    return optax.softmax_cross_entropy_with_integer_labels(x @ weights["head"], batch["y"]).mean()

  player = nas.Player("cell", nas.BilevelProblem(loss, loss), relaxed=True)
  problem = nas.SearchProblem(init, [player], skip=0, channels={"layers": WIDTH})
  options = nas.SearchOptions(method=method, **options)
  setting = make_setting(problem, options, optax.sgd(0.01), optax.adam(1e-3))
  rng = np.random.default_rng(0)
  sides = [
    as_source("data", {"x": rng.normal(size=(512, 64)).astype(np.float32), "y": rng.integers(0, 10, 512)})
    for _ in range(2)
  ]
  feed = open_feed(readings_of(problem, options, *sides, batch_size=BATCH, seed=0), placement="device")
  state = jax.jit(setting.init)(jax.random.key(0))
  return Problem(Config(), (player,), state, step_of(setting), feed)


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
  largest = {name: max(row["times_softmax"] for row in rows if row["problem"] == name) for name in PROBLEMS}
  write_report(
    arguments.json,
    settings={"repeats": repeats, "steps": _STEPS, "quick": arguments.quick},
    results={"rows": rows, "machine": measure_machine()._asdict()},
    bars={f"method_times_softmax_{name}": value for name, value in largest.items()},
  )


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
