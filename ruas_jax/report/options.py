"""The configuration of a run as a table: first the options that differ from the defaults, then all of them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ruas_jax.report.markup import Markup, element, folded, table


def options_part(config: Mapping[str, Any], default: Mapping[str, Any]) -> Markup:
  """The options of `config`. `default` has the same form; an option that it lacks counts as different."""
  ours, theirs = dict(_flat(config)), dict(_flat(default))
  parts = {path: value for path, value in ours.items() if path.startswith("parts.")}
  ours = {path: value for path, value in ours.items() if path not in parts}
  changed = [(path, value, theirs.get(path, "")) for path, value in ours.items() if value != theirs.get(path)]
  if changed:
    shown = table(["option", "value", "default"], map(_row, changed), caption="Options that differ from the defaults")
  else:
    shown = element("p", "Every option has its default.")
  everything = table(["option", "value"], map(_row, ours.items()), caption="All options")
  inside = [shown, folded(f"All {len(ours)} options", everything)]
  if parts:
    named = ((path.removeprefix("parts."), value) for path, value in parts.items())
    inside.append(folded("What the search method consists of", table(["part", "value"], map(_row, named))))
  return Markup("".join(inside))


def _row(values: tuple[str, ...]) -> list[Markup]:
  return [element("code", value) for value in values]


def _flat(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
  """Every option by its path, as JSON text."""
  for name, value in values.items():
    if isinstance(value, Mapping) and value:
      yield from _flat(value, f"{within}{name}.")
    else:
      yield f"{within}{name}", json.dumps(value, ensure_ascii=False)
