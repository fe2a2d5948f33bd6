"""Time of an outer step, ours and that of PyTorch and its libraries, of the same algorithm on the same problem.

    python -m benchmarks.bilevel.peers --json benchmarks/results/bilevel_peers.json [--quick]

Needs torch; BOAT (boat-torch), Betty (betty-ml) and TorchOpt are measured if they are installed. All take turns in one
process on one core: a second thread would wait whenever another program has its core. Before that, two steps of each
must end at our alpha. Our steps are those of `bilevel.solve`, in one compiled loop. A peer's steps are a Python loop,
as its library has it.
"""

import functools
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax import lax

from benchmarks.bilevel.cases import LARGEST, SMALL, Case, make_case, smoothness
from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax import bilevel
from ruas_jax.bilevel.problems import StandardProblem

TOLERANCE = 1e-3  # of the change of alpha in two steps, in float32
SCHEDULE = "learned_schedule"
METHODS = ("unrolled", "cg", "neumann")
ALL_PEERS = ("PyTorch", "BOAT", "TorchOpt", "Betty")


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before jax and torch make their threads
  names = ("ridge",) if arguments.quick else (*SMALL, LARGEST)
  repeats = 2 if arguments.quick else 5
  rows = [measure_schedule(repeats), *(row for name in names for row in measure(make_case(name), repeats))]
  print_table(rows, "milliseconds of an outer step")
  write_report(
    arguments.json,
    settings={"tolerance": TOLERANCE, "libraries": _versions(), "cores": 1, "quick": arguments.quick},
    results=rows,
    bars={} if arguments.quick else _bars(rows),
  )


def _bars(rows):
  of = lambda names: min(row["times_faster"] for row in rows if row["case"] in names)
  return {"bilevel_small_times_faster": of((*SMALL, SCHEDULE)), "bilevel_large_times_faster": of((LARGEST,))}


def _versions():
  import importlib.metadata

  names = ("torch", "boat-torch", "betty-ml", "torchopt")
  found = {distribution.metadata["Name"]: distribution.version for distribution in importlib.metadata.distributions()}
  return {name: found[name] for name in names if name in found}


def measure(case: Case, repeats: int) -> list[dict[str, Any]]:
  """A row for each method: milliseconds of ours and of each peer; `times_faster` is the fastest peer over ours."""
  from benchmarks.bilevel.torch_losses import in_torch
  from benchmarks.bilevel.torch_peers import PEERS

  problem = case.problem
  inner = 1 / smoothness(problem)
  outer = _outer_rate(problem, inner)
  rows = []
  for method in METHODS:
    ours = Ours(case, method, inner, outer)
    reached = ours.after(2)
    runs: dict[str, Callable[[int], Any]] = {"ours": ours.run}
    differences = []
    for name, peer in PEERS[method].items():
      try:
        stepper = peer(in_torch(case), method, inner, outer)
      except ImportError:
        continue
      for _ in range(2):
        stepper.step()
      theirs = np.concatenate([leaf.detach().numpy().ravel() for leaf in stepper.alpha])
      differences.append(_difference(f"{case.name}, {method}", name, theirs, reached, problem))
      runs[name] = functools.partial(_repeat, stepper.step)
    rows.append(_row(case.name, method, in_turns(runs, repeats), differences))
  return rows


def measure_schedule(repeats: int) -> dict[str, Any]:
  """The row of `problems.learned_schedule`, whose inner steps are one pass in order; PyTorch alone is its peer."""
  from benchmarks.bilevel.torch_peers import Schedule

  problem, inner = bilevel.problems.learned_schedule(jax.random.key(0)), optax.sgd(1.0)
  batches = jax.tree.map(lambda leaf: leaf[:, None], problem.train)
  estimate = bilevel.make_estimator("unrolled", inner=inner, steps=len(problem.train["step"]))
  rate = 1e-2 * float(optax.tree.norm(problem.alpha) / optax.tree.norm(jax.jit(problem.hypergradient)(problem.alpha)))

  def step(alpha, _):
    state = inner.init(problem.weights)
    out = estimate(problem.problem, problem.weights, alpha, state, batches, problem.validation)
    return alpha - rate * out.gradient, None

  loop = jax.jit(lambda alpha, count: lax.scan(step, alpha, length=count)[0], static_argnums=1)
  reached, theirs = np.asarray(loop(problem.alpha, 2)), Schedule(problem, rate)
  _repeat(theirs.step, 2)
  difference = _difference(SCHEDULE, "PyTorch", theirs.alpha.detach().numpy(), reached, problem)
  runs = {"ours": lambda count: jax.block_until_ready(loop(problem.alpha, count))}
  return _row(
    SCHEDULE, "unrolled", in_turns(runs | {"PyTorch": functools.partial(_repeat, theirs.step)}, repeats), [difference]
  )


def _difference(case: str, peer: str, theirs: np.ndarray, ours: np.ndarray, problem: StandardProblem) -> float:
  """How far a peer's alpha is off ours after two steps, relative to our way.

  Raises:
    AssertionError: by more than `TOLERANCE`.
  """
  difference = float(np.linalg.norm(theirs - ours) / np.linalg.norm(ours - _flat(problem.alpha)))
  if not difference < TOLERANCE:
    raise AssertionError(f"{case}: after two steps {peer} is {difference:.2g} of the way off ours")
  return difference


def _row(case: str, method: str, seconds: dict[str, float], differences: list[float]) -> dict[str, Any]:
  """Milliseconds of a step of each, and `times_faster`."""
  print(case, method, {name: f"{1000 * value:.3g} ms" for name, value in seconds.items()}, flush=True)
  fastest = min(value for name, value in seconds.items() if name != "ours")
  return (
    {"case": case, "method": method}
    | {name: 1000 * seconds[name] if name in seconds else None for name in ("ours", *ALL_PEERS)}
    | {"times_faster": fastest / seconds["ours"], "largest_difference": max(differences)}
  )


def _outer_rate(problem, inner):
  """A rate at which alpha moves by a thousandth of its norm, or by 0.001 for zero, in the first step."""
  estimate = bilevel.make_estimator("cg", inner=optax.sgd(inner), steps=1, iterations=10)
  batches = jax.tree.map(lambda leaf: leaf[None], problem.train)
  state = optax.sgd(inner).init(problem.weights)
  out = jax.jit(functools.partial(estimate, problem.problem))(
    problem.weights, problem.alpha, state, batches, problem.validation
  )
  size = float(optax.tree.norm(problem.alpha)) or 1.0
  return 1e-2 * size / float(optax.tree.norm(out.gradient))


class Ours:
  """The solver `nested` in one compiled loop."""

  def __init__(self, case: Case, method: str, inner: float, outer: float):
    from benchmarks.bilevel.torch_peers import INNER_STEPS, PRODUCTS

    options = {
      "unrolled": {},
      "cg": {"iterations": PRODUCTS, "tolerance": 0.0},
      "neumann": {"terms": PRODUCTS + 1, "scale": inner},
    }
    problem = case.problem
    solver = bilevel.make_solver(
      "nested",
      problem.problem,
      estimator=method,
      inner=optax.sgd(inner),
      inner_steps=INNER_STEPS,
      estimator_options=options[method],
      outer=outer,
    )
    data = bilevel.Data(problem.train, problem.validation)
    self._start = solver.init(problem.weights, problem.alpha, data, jax.random.key(0))
    step = lambda state, _: (solver.step(state, data), None)
    self._loop = jax.jit(lambda state, count: lax.scan(step, state, length=count)[0], static_argnums=1)

  def after(self, steps: int) -> np.ndarray:
    """Alpha after these steps from the start."""
    return _flat(self._loop(self._start, steps).alpha)

  def run(self, steps: int) -> None:
    self._start = jax.block_until_ready(self._loop(self._start, steps))


def _flat(tree):
  return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _repeat(step, count):
  for _ in range(count):
    step()


def in_turns(runs: dict[str, Callable[[int], Any]], repeats: int) -> dict[str, float]:
  """Median seconds of a step of each; every turn takes a tenth of a second or more of each."""
  counts = {}
  for name, run in runs.items():
    run(5)
    begin = time.perf_counter()
    run(5)
    counts[name] = max(5, round(0.5 / (time.perf_counter() - begin)))
    run(counts[name])  # compiles
  seconds = {name: [] for name in runs}
  for _ in range(repeats):
    for name, run in runs.items():
      begin = time.perf_counter()
      run(counts[name])
      seconds[name].append((time.perf_counter() - begin) / counts[name])
  return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
  main()
