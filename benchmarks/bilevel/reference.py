"""Oracle calls of our solvers and of benchmark_bilevel's own, on its problems.

    python -m benchmarks.bilevel.reference --theirs FOLDER --json benchmarks/results/bilevel_reference.json [--quick]

FOLDER is a copy of the repository benchopt/benchmark_bilevel; benchopt comes from the package registry. Both get the
same numbers: its simulated quadratic problem, which `problems.random_quadratic` makes anew, and its older problem,
ridge regression on simulated features. Both take the same step sizes, which fall by the same powers, and minibatches of
64 in shuffled epochs (BOME takes all examples). Steps are counted until the squared norm of the exact hypergradient has
fallen to a share of the start's: the smallest of `SHARES` that theirs reaches within `MOST` steps with every seed. The
calls are the mean number of steps over seeds, times the calls of a step, the same for both. Ours have those of `init`
in addition.
"""

import importlib
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.bilevel.methods import INNER_STEPS, LINEAR_STEPS, oracle_calls, solver_options
from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax import bilevel
from ruas_jax.bilevel.problems import StandardProblem

BATCH, EVERY, SEEDS = 64, 4, 30
MOST = 6000  # steps
SHARES = (0.05, 0.01, 0.002, 0.0005)
# Names and options of their solvers. What is not here has their defaults.
THEIRS: dict[str, dict[str, Any]] = {
  "amigo": {"n_inner_steps": INNER_STEPS},
  "stocbio": {"n_inner_steps": INNER_STEPS, "n_shia_steps": LINEAR_STEPS},
  "soba": {},
  "fsla": {},
  "ttsa": {"n_hia_steps": LINEAR_STEPS},
  "saba": {},
  "srba": {"period_frac": 0.5},
  "sustain": {"n_hia_steps": LINEAR_STEPS, "eta": 0.5},
  "mrbo": {"n_shia_steps": LINEAR_STEPS, "eta": 0.5},
  "f2sa": {"n_inner_steps": INNER_STEPS, "lmbda0": 1.0, "delta_lmbda": 0.1},
  "bome": {"n_inner_steps": INNER_STEPS, "eta": 0.5},
}
PROBLEMS = {
  "quadratic": (lambda: bilevel.problems.random_quadratic(jax.random.key(0), alpha=10), 0.1, 0.1),
  "ridge": (lambda: bilevel.problems.ridge(jax.random.key(0), features=10, examples=512), 0.1, 5.0),
}
"""Problem, and step sizes of the weights and of alpha."""


def main() -> None:
  parser = argument_parser(__doc__.split("\n")[0])
  parser.add_argument("--theirs", type=pathlib.Path, required=True, help="folder of benchmark_bilevel")
  arguments = parser.parse_args()
  sys.path.insert(0, str(arguments.theirs))
  names = ["soba"] if arguments.quick else list(THEIRS)
  seeds = 1 if arguments.quick else SEEDS
  rows = [
    compare(title, make(), name, inner, outer, seeds)
    for title, (make, inner, outer) in PROBLEMS.items()
    for name in names
  ]
  print_table(rows, "oracle calls until the limit")
  settings = {"batch": BATCH, "seeds": seeds, "every": EVERY, "shares": SHARES, "most": MOST, "quick": arguments.quick}
  worst = max(row["ratio"] for row in rows if row["ratio"] is not None)
  write_report(
    arguments.json,
    settings=settings | {"rates": {title: rates for title, (_, *rates) in PROBLEMS.items()}},
    results=rows,
    bars={} if arguments.quick else {"bilevel_oracle_calls_over_theirs": worst},
  )


def compare(title: str, problem: StandardProblem, name: str, inner: float, outer: float, seeds: int) -> dict[str, Any]:
  """A row of the table; `share` and what follows from it is None if theirs does not reach the largest share."""
  ours, calls, first = steps_of_ours(problem, name, inner, outer, seeds)
  theirs = steps_of_theirs(problem, name, inner, outer, seeds)
  reached = [index for index in range(len(SHARES)) if theirs[:, index].max() < MOST]
  row = {"problem": title, "solver": name}
  if not reached:
    return row | dict.fromkeys(("share", "our_calls", "their_calls", "ratio", "deviation"))
  ours, theirs = ours[:, reached[-1]], theirs[:, reached[-1]]
  deviation = lambda steps: steps.std() / steps.mean() / len(steps) ** 0.5
  return row | {
    "share": SHARES[reached[-1]],
    "our_calls": first + float(ours.mean()) * calls,
    "their_calls": float(theirs.mean()) * calls,
    "ratio": float((first / calls + ours.mean()) / theirs.mean()),
    "deviation": float(np.hypot(deviation(ours), deviation(theirs))),
  }


def steps_of_ours(
  problem: StandardProblem, name: str, inner: float, outer: float, seeds: int
) -> tuple[np.ndarray, float, float]:
  """Steps until each share `[seeds, shares]`, the mean calls of a step, and the calls of `init`."""
  data, sizes = bilevel.Data(problem.train, problem.validation), _examples(problem)
  batch = None if name == "bome" else BATCH
  options = solver_options(name, inner, outer, period=int(0.5 * sum(sizes) / BATCH))
  if name == "f2sa":
    options["penalty"] = _penalty
  solver = bilevel.make_solver(name, problem.problem, batch_size=batch, order="shuffled", **options)

  def step(state, _):
    state = solver.step(state, data)
    return state, oracle_calls(name, state.diagnostics, batch or sizes[0])

  @jax.jit
  @jax.vmap
  def run(key):
    state = solver.init(problem.weights, problem.alpha, data, key)

    def segment(state, _):
      state, calls = lax.scan(step, state, length=EVERY)
      return state, (jnp.sum(problem.hypergradient(state.alpha) ** 2), calls.mean())

    return lax.scan(segment, state, length=MOST // EVERY)[1]

  squares, calls = run(jax.random.split(jax.random.key(0), seeds))
  start = float(jnp.sum(problem.hypergradient(problem.alpha) ** 2))
  steps = np.array(
    [_first_below(EVERY * np.arange(1, MOST // EVERY + 1), each / start) for each in np.asarray(squares)]
  )
  first = solver.init(problem.weights, problem.alpha, data, jax.random.key(0)).diagnostics
  return steps, float(np.mean(calls)), float(oracle_calls(name, first, batch or sizes[0]))


def steps_of_theirs(problem: StandardProblem, name: str, inner: float, outer: float, seeds: int) -> np.ndarray:
  """Steps of their solver until each share `[seeds, shares]`."""
  every = 1 if name == "bome" else EVERY
  stochastic = {} if name == "bome" else {"eval_freq": EVERY, "batch_size": BATCH}
  solver = importlib.import_module(f"solvers.{name}").Solver.get_instance(
    step_size=inner, outer_ratio=inner / outer, random_state=1, **stochastic, **THEIRS[name]
  )
  solver.run_once = lambda *_: None  # a warm-up
  data = (problem.train, problem.validation)
  losses = (_of_slices(loss, examples) for loss, examples in zip(problem.problem, data, strict=True))
  solver.set_objective(*losses, *_examples(problem), problem.weights, problem.alpha)
  norm = jax.jit(lambda alpha: jnp.sum(problem.hypergradient(alpha) ** 2))

  def steps(seed):
    if stochastic:  # the same compiled program, with other minibatches
      for side, key in zip(("inner", "outer"), jax.random.split(jax.random.PRNGKey(seed)), strict=True):
        sampler = getattr(solver, f"state_{side}_sampler")
        shuffled = jax.random.permutation(key, len(sampler["batch_order"]))
        setattr(solver, f"state_{side}_sampler", sampler | {"key": key, "batch_order": shuffled})
    solver.outer_var, squares = problem.alpha, []

    def unfinished():
      squares.append(float(norm(solver.outer_var)))
      return (len(squares) - 1) * every < MOST and squares[-1] > SHARES[-1] * squares[0]

    solver.run(unfinished)
    return _first_below(every * np.arange(len(squares)), np.array(squares) / squares[0])

  return np.array([steps(seed) for seed in range(1 if name == "bome" else seeds)])


def _first_below(steps, shares):
  """For each of `SHARES` the first of these steps at which it is reached; `MOST` if there is none."""
  return [min([*steps[shares <= share], MOST]) for share in SHARES]


def _of_slices(loss: Callable, data: Any) -> Callable:
  """The loss in their form."""

  def of_slice(weights, alpha, start=0, batch_size=1):
    batch = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, start, batch_size), data)
    return loss(weights, alpha, batch)

  return of_slice


def _penalty(step: jax.Array) -> jax.Array:
  """That of their F2SA, which grows by 0.1 (1 + step)^(-1/7)."""
  growth = 0.1 * np.arange(1.0, MOST + 1) ** (-1 / 7)
  return jnp.asarray(np.cumsum([1.0, *growth]), jnp.float32)[step]


def _examples(problem):
  return tuple(len(jax.tree.leaves(data)[0]) for data in (problem.train, problem.validation))


if __name__ == "__main__":
  main()
