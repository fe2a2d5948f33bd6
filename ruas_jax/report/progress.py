"""What the log of a run says: losses, further metrics, and the terms of the hypergradient, as charts over the step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ruas_jax.engine.journal import OF_THE_MACHINE
from ruas_jax.lowlight.genotype import CELLS
from ruas_jax.plots.losses import loss_curves, running_median, wide_range
from ruas_jax.plots.style import TITLES
from ruas_jax.report.charts import Axis, Curve, line_chart
from ruas_jax.report.markup import Markup

Records = Sequence[Mapping[str, Any]]

TERMS = {
  "direct": "direct: through alpha alone",
  "shift": "shift: what the inner step changes in it",
  "implicit": "implicit: through the weights",
}
_FIGURES = ("norm", "cosine", "sign_agreement")  # of a term, in the log
_OF_TERMS = tuple(f"_{term}_{figure}" for term in (*TERMS, "total") for figure in _FIGURES)
_MEANINGS = {
  "entropy": "entropy of the mixing weights, mean over edges (nats)",
  "skip_share": "mixing weight of skip, mean over edges",
  "hessian_largest": "largest eigenvalue of the outer loss's Hessian in alpha",
  "hessian_spread": "spread of the Hessian's eigenvalues",
  "gradient_match": "cosine of the weights' training and validation gradients",
  "skips": "edges whose strongest operation is skip",
  "residual": "residual of the implicit solver",
  "iterations": "iterations of the inner loop",
}
_STEP = Axis("step")


def loss_charts(records: Records) -> list[Markup]:
  """A chart for each module, and one for losses of both: raw values faint, their running median strong."""
  charts = []
  for cell, curves in loss_curves(records).items():
    drawn = []
    for index, (label, (steps, losses)) in enumerate(curves.items()):
      finite = np.isfinite(losses)
      drawn.append(Curve("", steps, losses, index, "faint"))
      drawn.append(Curve(label, steps[finite], running_median(losses[finite]), index))
    log = wide_range([losses for _, losses in curves.values()])
    charts.append(line_chart(TITLES.get(cell, "Both modules"), drawn, _STEP, Axis("loss", log=log)))
  return charts


def member_charts(members: Mapping[str, Records]) -> list[Markup]:
  """The losses of a population: a chart for each loss, a line for each member."""
  found: dict[tuple[str, str], list[Curve]] = {}
  for index, (name, records) in enumerate(members.items()):
    for cell, curves in loss_curves(records).items():
      for label, (steps, losses) in curves.items():
        finite = np.isfinite(losses)
        curve = Curve(name, steps[finite], running_median(losses[finite]), index)
        found.setdefault((cell, label), []).append(curve)
  return [
    line_chart(f"{TITLES.get(cell, 'Both modules')}, {label}", curves, _STEP, Axis("loss", log=_wide(curves)))
    for (cell, label), curves in found.items()
    if "validation" in label
  ]


def diagnostic_charts(records: Records) -> list[Markup]:
  """The other metrics of the log that change: a chart for each, a line for each module."""
  groups: dict[str, dict[str, list[tuple[int, float]]]] = {}
  for record in records:
    for key, value in record.items():
      if "step" in record and isinstance(value, int | float) and not _is_elsewhere(key):
        module = next((cell for cell in CELLS if key.startswith(f"{cell}_")), "")
        name = key.removeprefix(f"{module}_")
        groups.setdefault(name, {}).setdefault(module, []).append((record["step"], float(value)))
  charts = []
  for name, modules in groups.items():
    if all(len({value for _, value in values}) == 1 for values in modules.values()):
      continue
    curves = []
    for index, module in enumerate(sorted(modules, key=[*CELLS, ""].index)):
      values = sorted(modules[module])
      style = "points" if len(values) < 40 else ""
      steps, numbers = zip(*values, strict=True)
      curves.append(Curve(TITLES.get(module, name), steps, numbers, index, style))
    title = name.replace("_", " ")
    meaning = _MEANINGS.get(name)
    charts.append(line_chart(title[0].upper() + title[1:], curves, _STEP, Axis(title), note=meaning))
  return charts


def term_charts(records: Records) -> list[Markup]:
  """The sizes and directions of the hypergradient's terms, for each player whose terms were measured."""
  mark = "_total_norm"
  players = {key.removesuffix(mark) for record in records for key in record if key.endswith(mark)}
  return [chart for player in sorted(players, reverse=True) for chart in _term_charts(records, player)]


def _term_charts(records: Records, player: str) -> list[Markup]:
  measured = [record for record in records if f"{player}_total_norm" in record]
  style = "points" if len(measured) < 40 else ""

  def curve(label: str, name: str, color: int, style: str) -> Curve:
    values = [np.nan if record.get(name) is None else record[name] for record in measured]
    return Curve(label, [record["step"] for record in measured], values, color, style)

  def curves(figure: str) -> list[Curve]:
    named = enumerate(TERMS.items())
    return [curve(words, f"{player}_{term}_{figure}", color, style) for color, (term, words) in named]

  sizes = [*curves("norm"), curve("their sum", f"{player}_total_norm", 7, "dashed")]
  title, cosine = TITLES.get(player, player), Axis("cosine with the sum", limits=(-1.05, 1.05))
  return [
    line_chart(f"{title}: size of each term", sizes, _STEP, Axis("Euclidean norm", log=True)),
    line_chart(f"{title}: direction of each term", curves("cosine"), _STEP, cosine),
  ]


def duration(records: Records) -> float | None:
  """Seconds that the run took, over all processes that carried it on; None if the log has no times."""
  total, last = 0.0, 0.0
  seen = [record["seconds"] for record in records if isinstance(record.get("seconds"), int | float)]
  for seconds in seen:
    total, last = total + (seconds - last if seconds >= last else seconds), seconds
  return total if seen else None


def _is_elsewhere(key: str) -> bool:
  """Whether another chart has it, or it is no metric of the run."""
  return key in ("step", "loss", "early_stop", *OF_THE_MACHINE) or key.endswith(("_loss", "_converged", *_OF_TERMS))


def _wide(curves: Sequence[Curve]) -> bool:
  return wide_range([np.asarray(curve.y) for curve in curves])
