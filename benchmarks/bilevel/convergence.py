"""Suboptimality of all solvers on all problems, against oracle calls and time.

    python -m benchmarks.bilevel --json benchmarks/results/bilevel.json --pictures docs [--quick]

A solver takes minibatches of an eighth of the examples. Its step sizes are the best of a grid: those that give the
lowest value after the budget of oracle calls. The suboptimality is `value(alpha)` minus the lowest value known: that of
the known solution, or of any run here. Time is that of the compiled loop, without compilation.
"""

import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from benchmarks.bilevel.cases import SMALL, Case, make_case, smoothness
from benchmarks.bilevel.methods import oracle_calls, solver_options
from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax import bilevel

POINTS = 40  # of a curve
BUDGET = 400  # passes: oracle calls divided by the number of training examples
_INNER = (1.0, 0.3, 0.1, 0.03)  # times one over the smoothness
_OUTER = 10.0 ** np.arange(-3, 3)  # times a rate that moves alpha by its own size


def main() -> None:
  parser = argument_parser(__doc__.split("\n")[0])
  parser.add_argument("--pictures", type=pathlib.Path, help="draw the curves into this folder")
  arguments = parser.parse_args()
  names = ("quadratic",) if arguments.quick else SMALL
  budget = 40 if arguments.quick else BUDGET
  curves = {name: run_case(make_case(name), budget) for name in names}
  print_table([row for name, case in curves.items() for row in summary(name, case)], "after the budget")
  settings = {"points": POINTS, "budget": budget, "inner": _INNER, "outer": _OUTER.tolist(), "quick": arguments.quick}
  write_report(arguments.json, settings=settings, results=curves, bars={})
  if arguments.pictures:
    from benchmarks.bilevel.pictures import draw_curves

    draw_curves(curves, arguments.pictures)


def summary(name: str, case: dict[str, Any]) -> list[dict[str, Any]]:
  rows = case["solvers"].items()
  last = lambda row: {key: row[key][-1] for key in ("suboptimality", "passes", "seconds")}
  return [{"case": name, "solver": solver} | last(row) for solver, row in rows]


def run_case(case: Case, budget: float) -> dict[str, Any]:
  """The curves of all solvers; `best` is the lowest value, which is that of the known solution if `is_known`."""
  problem = case.problem
  value = jax.jit(lambda alphas: lax.map(problem.value, alphas))
  found = {name: run_solver(case, name, budget, value) for name in bilevel.SOLVERS}
  best = min(min(row["value"]) for row in found.values())
  if problem.solution is not None:
    best = float(problem.value(problem.solution[1]))
  for row in found.values():
    row["suboptimality"] = [each - best for each in row["value"]]
  return {"best": best, "is_known": problem.solution is not None, "solvers": found}


def run_solver(case: Case, name: str, budget: float, value) -> dict[str, Any]:
  """The curve of one solver with its best step sizes."""
  problem, batch_size = case.problem, case.examples // 8
  data = bilevel.Data(problem.train, problem.validation)

  @jax.jit
  def run(rates, every):
    """Alpha at each of the points, which are `every` steps apart, and the calls there and before the first step."""
    options = solver_options(name, rates[0], rates[1], period=8)
    solver = bilevel.make_solver(name, problem.problem, batch_size=batch_size, **options)

    def step(_, carry):
      state, calls = carry
      state = solver.step(state, data)
      return state, calls + jnp.asarray(oracle_calls(name, state.diagnostics, batch_size), jnp.int32)

    def segment(carry, _):
      carry = lax.fori_loop(0, every, step, carry)
      return carry, (carry[0].alpha, carry[1])

    state = solver.init(problem.weights, problem.alpha, data, jax.random.key(0))
    first = jnp.asarray(oracle_calls(name, state.diagnostics, batch_size), jnp.int32)
    alphas, calls = lax.scan(segment, (state, first), length=POINTS)[1]
    return alphas, jnp.concatenate([first[None], calls])

  scale = (1 / smoothness(problem), _outer_scale(case))
  grid = [jnp.array((a * scale[0], b * scale[1])) for a in _INNER for b in _OUTER]
  calls = run(grid[0], 1)[1]
  per_step = float(calls[-1] - calls[0]) / POINTS
  every = max(1, round(budget * case.examples / per_step / POINTS))
  last = [jax.tree.map(lambda leaf: leaf[-1], run(rates, every)[0]) for rates in grid]
  ends = np.asarray(value(jax.tree.map(lambda *leaves: jnp.stack(leaves), *last)))
  rates = grid[int(np.argmin(np.where(np.isfinite(ends), ends, np.inf)))]
  begin = time.perf_counter()
  alphas, calls = jax.block_until_ready(run(rates, every))
  seconds = time.perf_counter() - begin
  alphas = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), problem.alpha, alphas)
  return {
    "inner": float(rates[0]),
    "outer": float(rates[1]),
    "steps": every * POINTS,
    "passes": (np.asarray(calls) / case.examples).tolist(),
    "seconds": np.linspace(0, seconds, POINTS + 1).tolist(),
    "value": np.asarray(value(alphas)).tolist(),
  }


def _outer_scale(case):
  """The rate at which the first step moves alpha by its own size, or by 1."""
  problem = case.problem
  size = float(optax.tree.norm(problem.alpha)) or 1.0
  return size / float(optax.tree.norm(jax.jit(problem.hypergradient)(problem.alpha)))


if __name__ == "__main__":
  main()
