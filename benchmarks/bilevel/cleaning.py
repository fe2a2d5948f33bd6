"""Hyper-cleaning of scikit-learn's digits with 40 % wrong labels, against training on the clean part.

    python -m benchmarks.bilevel.cleaning --json benchmarks/results/bilevel_cleaning.json [--quick]

The learned weights are those of the solver `amigo` on all examples. `clean` is the minimum of the same loss on the
clean part, which the solver is not told, and `all` that on all examples. The test digits are those that no loss has
seen.
"""

import jax
import jax.numpy as jnp
import optax

from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax import bilevel

SEEDS, STEPS = 10, 1000
SETTING = {"wrong": 0.4, "examples": 1000, "validation": 500, "penalty": 1e-3}
_CERTAIN = 30.0  # whose sigmoid is 1


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  seeds, steps = (1, 20) if arguments.quick else (SEEDS, STEPS)
  rows = [measure(seed, steps) for seed in range(seeds)]
  print_table(rows, "hyper-cleaning with 40 % wrong labels")
  mean = lambda name: sum(row[name] for row in rows) / len(rows)
  write_report(
    arguments.json,
    settings=SETTING | {"seeds": seeds, "steps": steps, "quick": arguments.quick},
    results=rows,
    bars={}
    if arguments.quick
    else {
      "bilevel_cleaning_accuracy_below_clean": mean("clean") - mean("cleaned"),
      "bilevel_cleaning_auc": mean("auc"),
    },
  )


def measure(seed: int, steps: int) -> dict[str, float]:
  """Accuracies on the test digits, and the AUC of the learned weights."""
  problem = bilevel.problems.hyper_cleaning(jax.random.key(seed), **SETTING)
  wrong = problem.train["wrong"]
  at = lambda alpha: problem.measures(jax.jit(problem.minimum)(alpha), alpha)["test_accuracy"]
  found = bilevel.solve(
    problem.problem,
    problem.weights,
    problem.alpha,
    problem.train,
    problem.validation,
    method="amigo",
    inner=1.0,
    inner_steps=5,
    linear_steps=5,
    outer=optax.adam(0.03),
    steps=steps,
  )
  measured = problem.measures(found.weights, found.alpha)
  return {
    "seed": seed,
    "clean": float(at(jnp.where(wrong, -_CERTAIN, _CERTAIN))),
    "all": float(at(jnp.full(wrong.shape, _CERTAIN))),
    "cleaned": float(measured["test_accuracy"]),
    "auc": float(measured["auc"]),
  }


if __name__ == "__main__":
  main()
