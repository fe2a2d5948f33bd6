"""The genotype of a search, and alpha over its steps."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.lowlight.genotype import CELLS, Genotype, alpha_shares, softmax
from ruas_jax.plots.style import words
from ruas_jax.report.cells import LEVELS, genotype_graphs, operation_key, share_table, used_operations
from ruas_jax.report.markup import Markup, element, table


class AlphaHistory(NamedTuple):
  """Attributes:
  steps: steps `[n]` after which alpha is known.
  shares: softmax(alpha) of each cell, `[n, E, O]`.
  operations: names of the O operations.
  sizes: softmax(alpha) `[S]` of each choice of sizes in the result; empty: there is none.
  """

  steps: list[int]
  shares: dict[str, np.ndarray]
  operations: tuple[str, ...]
  sizes: dict[str, np.ndarray]


def alpha_history(
  records: Sequence[Mapping[str, Any]], operations: Sequence[str], last: Mapping[str, Any] | None
) -> AlphaHistory | None:
  """Alpha over the steps of a search; None if it is nowhere.

  Args:
    records: the log, in which some records have alpha.
    operations: names of the operations, in the order of alpha's columns.
    last: alpha of the result; it takes the last step.
  """
  found = {}
  for record in records:
    logged = {cell: record.get(f"alpha_{cell}", record.get(f"alpha_{cell}.edges")) for cell in CELLS}
    if None not in logged.values() and "step" in record:
      found[record["step"]] = logged
  if last is not None:
    found[max([record.get("step", 0) for record in records], default=0)] = last
  steps, shares = [], {cell: [] for cell in CELLS}
  for step, alpha in sorted(found.items()):
    try:
      of_step = [alpha_shares(alpha[cell], cell=cell, operation_names=operations) for cell in CELLS]
    except (UserError, TypeError, ValueError):  # not finite after a failure, or not alpha
      continue
    steps.append(step)
    for cell, of_cell in zip(CELLS, of_step, strict=True):
      shares[cell].append(of_cell)
  if not steps:
    return None
  sizes = {name: softmax(logits) for name, logits in (last or {}).items() if name not in CELLS}
  return AlphaHistory(steps, {cell: np.stack(rows) for cell, rows in shares.items()}, tuple(operations), sizes)


def genotype_part(genotype: Genotype) -> Markup:
  """The genotype as graphs, and in one line."""
  names = used_operations([genotype])
  graphs = element("div", genotype_graphs(genotype), class_="charts")
  return Markup(element("p", element("code", str(genotype)), class_="note") + operation_key(names) + graphs)


def alpha_part(history: AlphaHistory, genotype: Genotype | None, sizes: Mapping[str, Sequence[int]]) -> Markup:
  """The mixing weights after the last step as tables, and a slider that shows those of the operations after earlier
  steps.

  The slider is hidden where scripts do not run. `sizes` are the values of each choice of sizes.
  """
  low = min(float(shares.min()) for shares in history.shares.values())
  high = max(float(shares.max()) for shares in history.shares.values())
  digits = 2 if high - low > 0.05 else 3  # after a short search the values are close
  last = {cell: shares[-1] for cell, shares in history.shares.items()}
  strongest = lambda cell: [history.operations[index] for index in last[cell].argmax(axis=1)]
  chosen = {cell: list(getattr(genotype, cell)) if genotype else strongest(cell) for cell in CELLS}
  tables = [
    share_table(cell, last[cell], history.operations, chosen[cell], low=low, high=high, digits=digits) for cell in CELLS
  ]
  text = (
    f"softmax(alpha). The shades go from {low:.{digits}f} to {high:.{digits}f}. A frame marks "
    "the strongest operation of each edge; after the last step, the one that was chosen."
  )
  parts = [element("p", text, class_="note"), operation_key(history.operations)]
  if len(history.steps) > 1:
    parts += [_controls(history.steps), _data(history, chosen, low=low, high=high, digits=digits)]
  parts.append(element("div", tables, class_="charts"))
  for name, shares in history.sizes.items():
    row = [words(name), *(f"{share:.{digits}f}" for share in shares)]
    parts.append(table(["", *map(str, sizes[name])], [row], label=words(name)))
  return element("div", parts, id="alpha")


def _controls(steps: Sequence[int]) -> Markup:
  most = len(steps) - 1
  return element(
    "p",
    element("button", "Play", type="button", id="alpha-play"),
    element("label", "After step", for_="alpha-at"),
    element("input", type="range", id="alpha-at", min=0, max=most, value=most, step=1),
    element("output", steps[-1], id="alpha-step", for_="alpha-at"),
    class_="controls",
    hidden=True,
  )


def _data(history: AlphaHistory, chosen: Mapping[str, Sequence[str]], **scale: float) -> Markup:
  """The numbers that the script shows. `<` is written so that no text in them can end the element."""
  content = {
    "steps": history.steps,
    "shares": {cell: np.round(shares, 4).tolist() for cell, shares in history.shares.items()},
    "chosen": {cell: [history.operations.index(name) for name in names] for cell, names in chosen.items()},
    "levels": LEVELS,
    **scale,
  }
  text = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
  return element("script", Markup(text), type="application/json", id="alpha-data")
