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
SETTING = {"wrong": 0.4, "penalty": 1e-3}
SPLITS = ((800, 700), (1000, 500))  # training and clean validation digits; the bars are of the first
_CERTAIN = 30.0  # whose sigmoid is 1


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  seeds, steps = (1, 20) if arguments.quick else (SEEDS, STEPS)
  rows = [measure(seed, steps, *split) for split in SPLITS for seed in range(seeds)]
  print_table(rows, "hyper-cleaning with 40 % wrong labels")
  print_table([means(rows, *split) for split in SPLITS], "means over the seeds")
  first = means(rows, *SPLITS[0])
  write_report(
    arguments.json,
    settings=SETTING | {"seeds": seeds, "steps": steps, "quick": arguments.quick},
    results=rows,
    bars={}
    if arguments.quick
    else {
      "bilevel_cleaning_accuracy_below_clean": first["clean"] - first["cleaned"],
      "bilevel_cleaning_auc": first["auc"],
    },
  )


def means(rows: list[dict[str, float]], examples: int, validation: int) -> dict[str, float]:
  """The means over the seeds of one split."""
  of_split = [row for row in rows if (row["examples"], row["validation"]) == (examples, validation)]
  mean = {name: sum(row[name] for row in of_split) / len(of_split) for name in ("clean", "all", "cleaned", "auc")}
  return {"examples": examples, "validation": validation} | mean | {"least_auc": min(row["auc"] for row in of_split)}


def measure(seed: int, steps: int, examples: int, validation: int) -> dict[str, float]:
  """Accuracies on the test digits, and the AUC of the learned weights."""
  sizes = {"examples": examples, "validation": validation}
  problem = bilevel.problems.hyper_cleaning(jax.random.key(seed), **SETTING, **sizes)
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
    **sizes,
    "clean": float(at(jnp.where(wrong, -_CERTAIN, _CERTAIN))),
    "all": float(at(jnp.full(wrong.shape, _CERTAIN))),
    "cleaned": float(measured["test_accuracy"]),
    "auc": float(measured["auc"]),
  }


if __name__ == "__main__":
  main()
