"""The front of one population that sweeps the weight of the cost, against random search and the true front of a table.

    python -m benchmarks.tabular.cost_front --table denoising --picture cost_front.png \\
      --json benchmarks/results/cost_front_denoising.json

Every member's architecture is looked up in the table: the mean of its objective over seeds, and its cost. Areas
(hypervolumes) lie between a front and the worst corner of the table: the largest cost and the worst objective. Random
search trains as many architectures as fit into the steps of the whole population, with the table's length of training;
its area is a mean over draws. A step of a search computes more than a training step, so the report also has random
search with as many steps as the searches have gradients of a training loss, about five in a step.
"""

import numpy as np
from scipy.stats import spearmanr

from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.tabular.study import GRADIENTS
from ruas_jax import nas
from ruas_jax.engine.mesh import one_cpu_device_per_core
from ruas_jax.nas.benchmark import load
from ruas_jax.nas.benchmark.methods import arguments_of
from ruas_jax.nas.methods import METHODS
from ruas_jax.nas.pareto import hypervolume, nondominated
from ruas_jax.nas.relaxation import softmax
from ruas_jax.plots import make_figure, save_figure, tidy
from ruas_jax.plots.front import UNITS

_DRAWS = 1000


def main(arguments: list[str] | None = None) -> None:
  parser = argument_parser(__doc__.split("\n")[0])
  parser.add_argument("--table", default="denoising", help="name or file of the table")
  parser.add_argument("--cost", default="macs", help="parameters or macs")
  parser.add_argument("--method", default="darts", choices=METHODS, help="method of the searches")
  parser.add_argument("--members", type=int, default=16, help="number of weights in the sweep")
  parser.add_argument("--weights", type=float, nargs=2, default=(1e-3, 100.0), help="smallest and largest one above 0")
  parser.add_argument("--steps", type=int, default=400, help="steps of every search")
  parser.add_argument("--seeds", type=int, default=5, help="number of populations")
  parser.add_argument("--picture", metavar="FILE", help="write a picture of the first population to this file")
  options = parser.parse_args(arguments)
  if options.quick:
    options.members, options.steps, options.seeds = 2, 3, 1
  one_cpu_device_per_core()
  table = load(options.table)
  space = table.space
  weights = [0.0, *np.geomspace(*options.weights, options.members - 1).tolist()]
  problem = space.problem()
  expected = problem.costs[options.cost]
  points = Points(table, options.cost)
  true_area = points.area(range(len(table)))
  rows = []
  for seed in range(options.seeds):
    searches = _search(problem, space, weights, options, seed)
    finished = [(found, weight) for found, weight in zip(searches, weights, strict=True) if found]
    columns = [table.index(found.derived) for found, _ in finished]
    expectations = [float(expected(softmax(found.alpha))) for found, _ in finished]
    rows.append(
      {
        "seed": seed,
        "area": points.area(columns),
        "different": len(set(columns)),
        "rank_correlation": float(spearmanr(expectations, points.values[columns, 0])[0]),
        "points": [points.describe(column, weight) for column, (_, weight) in zip(columns, finished, strict=True)],
      }
    )
  budget = options.members * options.steps
  random = {
    name: points.random_area(max(1, factor * budget // space.recipe.steps))
    for name, factor in (("by_steps", 1), ("by_gradients", GRADIENTS))
  }
  area = float(np.mean([row["area"] for row in rows]))
  print_table(
    [{key: row[key] for key in ("seed", "area", "different", "rank_correlation")} for row in rows], table.name
  )
  print(f"true front {true_area:.4g}; random search {random}")
  if options.picture:
    draw(options.picture, points, rows[0])
  write_report(
    options.json,
    settings={
      "quick": options.quick,
      "table": table.name,
      "cost": options.cost,
      "method": options.method,
      "weights": weights,
      "steps": options.steps,
      "seeds": options.seeds,
      "steps_of_an_architecture": space.recipe.steps,
      "corner": points.corner,
    },
    results={
      "populations": rows,
      "mean_area": area,
      "true_area": true_area,
      "true_front": [points.describe(column) for column in points.front()],
      "random": random,
      "times_random_by_gradients": area / random["by_gradients"]["area"],
    },
    bars={}
    if options.quick
    else {
      "cost_front_times_random_search": area / random["by_steps"]["area"],
      "cost_front_share_of_the_true_front": area / true_area,
      "cost_front_rank_correlation": float(np.mean([row["rank_correlation"] for row in rows])),
    },
  )


def _search(problem, space, weights, options, seed: int) -> list[nas.SearchResult | None]:
  """A search for every weight; None: it failed."""
  search = nas.SearchOptions(steps=options.steps, method=options.method, cost=options.cost)
  sweep = {"search.cost_weight": weights}
  population = nas.search_population(problem, seeds=[seed], sweep=sweep, options=search, **arguments_of(space, search))
  return population.results


class Points:
  """The architectures of a table as `[cost as a share of the largest, minus the objective]`."""

  def __init__(self, table, cost: str):
    self.table, self.cost = table, cost
    costs = table.costs[cost] / table.costs[cost].max()
    self.values = np.stack([costs, -table.column()], axis=1)
    self.corner = tuple(self.values.max(axis=0).tolist())

  def area(self, columns) -> float:
    return hypervolume(self.values[list(columns)].tolist(), self.corner)

  def front(self) -> list[int]:
    return np.flatnonzero(nondominated(self.values.tolist())).tolist()

  def random_area(self, count: int) -> dict[str, float]:
    """The area of `count` different architectures: its mean and deviation over draws."""
    rng, count = np.random.default_rng(0), min(count, len(self.table))
    areas = [self.area(rng.choice(len(self.table), count, replace=False)) for _ in range(_DRAWS)]
    return {"architectures": count, "area": float(np.mean(areas)), "deviation": float(np.std(areas))}

  def describe(self, column: int, weight: float | None = None) -> dict:
    found = {"architecture": self.table.architectures[column], "cost": float(self.table.costs[self.cost][column])}
    return found | {self.table.objective: float(-self.values[column, 1]), "weight": weight}


def draw(path, points: Points, row: dict) -> None:
  """The table's architectures, their front, and what the members of a population found."""
  table = points.table
  costs, values = table.costs[points.cost], -points.values[:, 1]
  figure = make_figure(6.6, 4.4, layout="constrained")
  axis = figure.subplots()
  axis.scatter(costs, values, color="#b8c1c9", s=9, label=f"all {len(table)} architectures")
  front = sorted(points.front(), key=lambda column: costs[column])
  axis.step(costs[front], values[front], where="post", color="black", linewidth=1, label="their front")
  places = [(point["cost"], point[table.objective]) for point in row["points"]]
  axis.scatter(*zip(*places, strict=True), color="#d62728", s=40, zorder=3, label="found, with the weight of the cost")
  for cost in sorted({cost for cost, _ in places}):
    weights = [point["weight"] for point in row["points"] if point["cost"] == cost]
    text = f"{min(weights):.3g}" + (f" to {max(weights):.3g}" if len(weights) > 1 else "")
    best = max(value for of_place, value in places if of_place == cost)
    axis.annotate(text, (cost, best), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8.5)
  lowest, highest = min(value for _, value in places), values.max()
  axis.set_ylim(lowest - 0.5 * (highest - lowest), highest + 0.2 * (highest - lowest))  # the worst are far below
  axis.margins(x=0.16)
  axis.set(xlabel=UNITS.get(points.cost, points.cost), ylabel=table.objective)
  tidy(axis)
  axis.legend(frameon=False, loc="lower right", fontsize=9)
  save_figure(figure, path)


if __name__ == "__main__":
  main()
