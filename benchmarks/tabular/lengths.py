"""How the length of a search changes what a method finds, ten seeds each, beside the baselines of equal cost.

    python -m benchmarks.tabular.lengths --json benchmarks/results/search_lengths.json

`benchmarks.tabular.study` compares all methods at one length. This repeats some of them at others.
"""

from concurrent import futures

from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.tabular.study import TABLES, baseline_rows, row_of, shown
from ruas_jax import nas
from ruas_jax.engine.compile_cache import enable_compilation_cache
from ruas_jax.engine.mesh import one_cpu_device_per_core
from ruas_jax.engine.progress import progress
from ruas_jax.nas.methods import METHODS

_METHODS = ("first_order_darts", "gdas", "reinmax", "drnas")
_STEPS = (120, 200, 400)


def main(arguments: list[str] | None = None) -> None:
  parser = argument_parser(__doc__.split("\n")[0])
  parser.add_argument("--methods", nargs="+", choices=METHODS, default=_METHODS)
  parser.add_argument("--steps", nargs="+", type=int, default=_STEPS, help="lengths of the searches")
  parser.add_argument("--seeds", type=int, default=10, help="searches of every method and length")
  options = parser.parse_args(arguments)
  if options.quick:
    options.methods, options.steps, options.seeds = ["gdas"], [3], 2
  enable_compilation_cache()
  one_cpu_device_per_core()
  tables = {name: nas.benchmark.load(name) for name in TABLES}
  cases = [(name, steps, method) for name in tables for steps in options.steps for method in options.methods]

  def run(case):
    name, steps, method = case
    found = tables[name].evaluate(nas.SearchOptions(steps=steps, method=method), options.seeds)
    return {"steps": steps} | row_of(tables[name], method, "method", found)

  results = {name: [] for name in tables}
  with progress(len(cases), "lengths") as bar, futures.ThreadPoolExecutor(2) as pool:
    for done, (case, row) in enumerate(zip(cases, pool.map(run, cases), strict=True), start=1):
      results[case[0]].append(row)
      bar.update(done)
  for name, table in tables.items():
    for steps in options.steps:
      results[name] += [{"steps": steps} | row for row in baseline_rows(table, steps, options.seeds)]
    results[name].sort(key=lambda row: (row["steps"], row["regret"]["mean"]))
    print_table([{"steps": row["steps"]} | shown(row) for row in results[name]], name)
  write_report(
    options.json,
    settings={"quick": options.quick, "seeds": options.seeds, "steps": [*options.steps]},
    results=results,
    bars={},
  )


if __name__ == "__main__":
  main()
