"""A population: how far its members agree, what each of them was and found, and the front of cost and loss."""

from collections.abc import Mapping, Sequence
from typing import Any

from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.plots.front import UNITS
from ruas_jax.report.cells import agreement_grids, operation_key, used_operations
from ruas_jax.report.charts import Axis, Curve, line_chart
from ruas_jax.report.markup import Content, Markup, element, facts, number, table

_PAIRS = {
  "within_setting": "two seeds of one setting",
  "across_settings": "two settings",
  "across_settings_same_seed": "two settings from one seed",
}


def agreement_part(summary: Mapping[str, Any]) -> Markup:
  """The share of edges on which members agree, and every member's operations."""
  genotypes = [Genotype.from_text(found["genotype"]) for found in summary["genotypes"]]
  agreed = [
    (f"edges on which {words} agree", f"{summary['pairs'][name]:.0%}")
    for name, words in _PAIRS.items()
    if summary["pairs"].get(name) is not None
  ]
  found = [("members", len(summary["members"])), ("different genotypes", len(genotypes)), *agreed]
  grids = element("div", agreement_grids(summary), class_="charts")
  return Markup(facts(found) + operation_key(used_operations(genotypes)) + grids)


def members_part(summary: Mapping[str, Any]) -> Markup:
  """A table of the members: their settings, last losses and genotypes, or why they failed."""
  members = summary["members"]
  swept = list(members[0]["values"])
  losses = list(dict.fromkeys(name for member in members for name in member["losses"]))
  head = ["member", "seed", *swept, "steps", *(f"{name.replace('_', ' ')} loss" for name in losses), "genotype"]

  def row(member) -> list[Content]:
    values = [number(member["values"][path]) for path in swept]
    last = [number(member["losses"].get(name)) for name in losses]
    found = (
      element("code", member["genotype"], class_="whole") if member["genotype"] else member["failure"] or "not finished"
    )
    return [member["name"], member["seed"], *values, member["steps"], *last, found]

  return table(head, map(row, members), label="Members")


def front_part(front: Mapping[str, Any]) -> Markup:
  """Loss over cost, and a table of the members by rising cost."""
  points = front["points"]
  best = [point for point in points if point["on_front"]]
  others = [point for point in points if not point["on_front"]]
  curves = [
    Curve("", *_stairs(*_columns(best)), 3),
    Curve("on the front", *_columns(best), 3, "points alone"),
    Curve("dominated", *_columns(others), 7, "points alone"),
  ]
  cost = f"{UNITS.get(front['cost'], front['cost'])} of the derived network"
  chart = line_chart("Cost and loss", [curve for curve in curves if len(curve.x)], Axis(cost), Axis("loss"))
  swept = list(points[0]["values"])

  def row(point) -> list[Content]:
    values = [number(point["values"][path]) for path in swept]
    relative = f"{point['relative_cost']:.1%}"
    on_front = "yes" if point["on_front"] else "no"
    return [point["name"], *values, number(point["cost"]), relative, number(point["loss"]), on_front]

  head = ["member", *swept, front["cost"], "of the most expensive", "loss", "on the front"]
  note = (
    f"The loss is the {front['loss']}. The hypervolume between the points and the corner of the most expensive "
    f"architecture and the largest loss is {number(front['hypervolume'])}."
  )
  return Markup(
    element("p", note, class_="note")
    + element("div", chart, class_="charts")
    + table(head, map(row, points), label="Members by cost")
  )


def _columns(points: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
  return [point["cost"] for point in points], [point["loss"] for point in points]


def _stairs(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
  """The corners of stairs that change at each point."""
  return [value for value in x for _ in range(2)][1:], [value for value in y for _ in range(2)][:-1]
