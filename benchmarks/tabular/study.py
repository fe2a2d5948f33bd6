"""What search methods, hypergradients and baselines find on the two tables, ten seeds each.

    python -m benchmarks.tabular.study --json benchmarks/results/search_study.json --pictures docs

Regret is the distance between the best architecture of the table and the one that was found. The baselines read the
validation losses of the table and have two budgets: as many training steps as a search has steps, and as many as it has
gradients of a loss, about five in an exact step. A random architecture is what one has without any search.
"""

import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.tabular.study_pictures import draw_qualities, draw_regrets
from ruas_jax import nas
from ruas_jax.engine.compile_cache import enable_compilation_cache
from ruas_jax.engine.mesh import one_cpu_device_per_core
from ruas_jax.engine.progress import progress
from ruas_jax.errors import UserError
from ruas_jax.nas import baselines
from ruas_jax.nas.benchmark import Table
from ruas_jax.nas.methods import METHODS

TABLES = ("denoising", "digits")
_STEPS = 240
GRADIENTS = 5  # of a loss in an exact step: the weights' update, the look-ahead, the outer loss, second derivatives
_DRAWS = 1000

# Estimators of the hypergradient in DARTS, each with the options that it needs.
HYPERGRADIENTS: dict[str, dict[str, Any]] = {
  "unrolled, 5 steps": {"hypergradient": "unrolled", "unroll_steps": 5},
  "finite_difference": {"hypergradient": "finite_difference"},
  "truncated": {"hypergradient": "truncated", "unroll_steps": 5, "hypergradient_options": ("last=1",)},
  "cg": {"hypergradient": "cg", "hypergradient_options": ("iterations=10", "damping=0.1")},
  "neumann": {"hypergradient": "neumann", "hypergradient_options": ("terms=10", "scale=0.01")},
  "nystrom": {"hypergradient": "nystrom", "hypergradient_options": ("rank=10", "damping=0.1")},
}


def main(arguments: list[str] | None = None) -> None:
  parser = argument_parser(__doc__.split("\n")[0])
  parser.add_argument("--seeds", type=int, default=10, help="searches of every method")
  parser.add_argument("--pictures", metavar="FOLDER", type=pathlib.Path, help="write the pictures into this folder")
  options = parser.parse_args(arguments)
  steps, seeds = (3, 2) if options.quick else (_STEPS, options.seeds)
  enable_compilation_cache()  # several seeds compile the same program
  one_cpu_device_per_core()
  start, results, skipped = time.perf_counter(), {}, {}
  for name in TABLES:
    table = nas.benchmark.load(name)
    rows, skipped[name] = study(table, steps, seeds, quick=options.quick)
    results[name] = {"space": describe(table), "rows": rows, "skipped": skipped[name]}
    print_table([shown(row) for row in rows], f"{name}: {table.objective} of what was found")
  seconds = time.perf_counter() - start
  if options.pictures:
    draw_regrets(options.pictures / "search_regret.png", {name: results[name] for name in TABLES})
    draw_qualities(options.pictures / "search_spaces.png", {name: nas.benchmark.load(name) for name in TABLES})
  fewest = min(len([row for row in result["rows"] if row["kind"] == "method"]) for result in results.values())
  write_report(
    options.json,
    settings={"quick": options.quick, "steps": steps, "seeds": seeds, "gradients_in_a_step": GRADIENTS},
    results=results | {"seconds": seconds},
    bars={} if options.quick else {"study_methods": fewest, "study_minutes": seconds / 60},
  )


def study(table: Table, steps: int, seeds: int, *, quick: bool) -> tuple[list[dict[str, Any]], dict[str, str]]:
  """A row for every method, hypergradient and baseline; and the methods that the space does not allow, with reasons."""
  searches = {("method", name): {"method": name} for name in METHODS}
  searches |= {("hypergradient", f"darts, {name}"): {"method": "darts"} | more for name, more in HYPERGRADIENTS.items()}
  if quick:
    searches = dict(list(searches.items())[:2])
  rows, skipped = [], {}

  def run(parts: dict[str, Any]) -> list[dict[str, Any]] | UserError:
    try:
      return table.evaluate(nas.SearchOptions(steps=steps, **parts), seeds)
    except UserError as error:
      return error

  # Two at a time: while one compiles, which keeps one core busy, the other computes.
  with progress(len(searches), f"study of {table.name}") as bar, futures.ThreadPoolExecutor(2) as pool:
    for done, ((kind, name), found) in enumerate(zip(searches, pool.map(run, searches.values()), strict=True), start=1):
      if isinstance(found, UserError):
        skipped[name] = str(found)
      else:
        rows.append(row_of(table, name, kind, found))
      bar.update(done)
  rows += baseline_rows(table, steps, seeds)
  return sorted(rows, key=lambda row: row["regret"]["mean"]), skipped


def baseline_rows(table: Table, steps: int, seeds: int) -> Iterator[dict[str, Any]]:
  """The baselines with two budgets, and architectures without a search."""
  choices = (len(table.operations),) * len(table.edges)
  shortest, longest = table.lengths[0], table.lengths[-1]
  halving = {"rungs": len(table.lengths), "factor": 2}
  for words, budget in (("as many steps", steps), ("as many gradients", GRADIENTS * steps)):
    budget = max(budget, longest)
    for name, search in (
      ("random search", lambda **given: baselines.random_search(steps=shortest, **given)),
      ("ageing evolution", lambda **given: baselines.ageing_evolution(steps=shortest, **given)),
      ("successive halving", lambda **given: baselines.successive_halving(steps=longest, **halving, **given)),
    ):
      records = []
      for seed in range(seeds):
        found = search(evaluate=losses_of(table), choices=choices, budget=budget, seed=seed)
        records.append({"seed": seed} | rated(table, found.architecture))
      yield row_of(table, f"{name}, {words}", "baseline", records)
  rng = np.random.default_rng(0)
  draws = [rated(table, rng.integers(len(table.operations), size=len(table.edges))) for _ in range(_DRAWS)]
  yield row_of(table, "a random architecture", "none", draws)


def losses_of(table: Table) -> Callable[[Sequence[int], int], float]:
  """Validation losses of the table."""
  return lambda architecture, steps: table.query(architecture, seed=0, steps=steps)["validation_loss"]


def rated(table: Table, architecture: Sequence[int]) -> dict[str, Any]:
  names = tuple(table.operations[index] for index in architecture)
  return {"architecture": names} | table.rate(names)


def row_of(table: Table, name: str, kind: str, records: list[dict[str, Any]]) -> dict[str, Any]:
  """Means over the searches with 95 % confidence intervals, and what was found."""
  figures = [key for key in ("regret", "percentile", "tau", table.objective, *table.costs) if key in records[0]]
  row = {"name": name, "kind": kind} | {key: interval([record[key] for record in records]) for key in figures}
  if kind != "none":
    row["found"] = [list(record["architecture"]) for record in records]
  return row


def interval(values: Sequence[float]) -> dict[str, float]:
  """The mean, and half of Student's 95 % confidence interval."""
  count = len(values)
  half = stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count) if count > 1 else float("inf")
  return {"mean": float(np.mean(values)), "half": float(half)}


def describe(table: Table) -> dict[str, Any]:
  values, noise = table.column(), table.noise()
  quantiles = np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist()
  return {"architectures": len(table), "objective": table.objective, "quantiles": quantiles} | noise._asdict()


def shown(row: dict[str, Any]) -> dict[str, str]:
  digits = {"percentile": 0, "tau": 2, "parameters": 0, "macs": 0}
  return {"name": row["name"]} | {
    key: f"{row[key]['mean']:.{digits.get(key, 3)}f} ± {row[key]['half']:.{digits.get(key, 3)}f}" if key in row else ""
    for key in ("regret", "percentile", "tau", "macs")
  }


if __name__ == "__main__":
  main()
