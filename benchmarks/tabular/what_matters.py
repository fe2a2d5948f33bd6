"""Which properties of an architecture decide about its quality, from the tables.

    python -m benchmarks.tabular.what_matters --json benchmarks/results/what_matters.json

For each property all architectures are grouped by it. Its share is the variance between the groups' means, divided by
the variance between all architectures.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.tabular.study import TABLES
from ruas_jax import nas

Architecture = Sequence[str]


def main(arguments: list[str] | None = None) -> None:
  options = argument_parser(__doc__.split("\n")[0]).parse_args(arguments)
  results = {}
  for name in TABLES:
    table = nas.benchmark.load(name)
    values = table.column()
    properties = {title: explained(table.architectures, values, of) for title, of in _properties(table).items()}
    results[name] = {"noise": table.noise().noise, "spread": table.noise().spread, "properties": properties}
    shown = [
      {"property": title} | {key: found[key] for key in ("groups", "share")} for title, found in properties.items()
    ]
    print_table(shown, name)
  write_report(options.json, settings={"quick": options.quick}, results=results, bars={})


def _properties(table: nas.benchmark.Table) -> dict[str, Callable[[Architecture], Hashable]]:
  found: dict[str, Callable[[Architecture], Hashable]] = {
    "which operations, on any edge": lambda architecture: tuple(sorted(Counter(architecture).items())),
  }
  if any("dilated" in operation for operation in table.operations):
    found |= {
      "number of 3x3 kernels, plain and dilated": _kernels,
      "any plain 3x3 kernel": lambda architecture: _kernels(architecture)[0] > 0,
      "any 3x3 kernel": lambda architecture: sum(_kernels(architecture)) > 0,
      "residual operations": lambda architecture: sum("residual" in operation for operation in architecture),
    }
  for operation in table.operations:
    found[f"number of {operation}"] = lambda architecture, operation=operation: architecture.count(operation)
  for edge, name in enumerate(table.edges):
    found[f"operation on {name}"] = lambda architecture, edge=edge: architecture[edge]
  return found


def _kernels(architecture: Architecture) -> tuple[int, int]:
  """Number of plain and of dilated 3x3 kernels."""
  spatial = [operation for operation in architecture if "3x3" in operation]
  dilated = sum("dilated" in operation for operation in spatial)
  return len(spatial) - dilated, dilated


def explained(
  architectures: Sequence[Architecture], values: np.ndarray, of: Callable[[Architecture], Hashable]
) -> dict[str, Any]:
  """The share of the variance that a property explains, and every group's size, mean and best value."""
  groups = defaultdict(list)
  for architecture, value in zip(architectures, values, strict=True):
    groups[of(tuple(architecture))].append(float(value))
  mean = float(np.mean(values))
  between = sum(len(group) * (np.mean(group) - mean) ** 2 for group in groups.values())
  rows = [
    {"value": str(value), "architectures": len(group), "mean": float(np.mean(group)), "best": max(group)}
    for value, group in sorted(groups.items(), key=lambda item: str(item[0]))
  ]
  few = {"rows": rows} if len(rows) <= 20 else {}
  return {"groups": len(rows), "share": float(between / np.sum((np.asarray(values) - mean) ** 2))} | few


if __name__ == "__main__":
  main()
