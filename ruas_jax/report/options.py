"""The configuration of a run as tables: the options that differ from the defaults, and all of them."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ruas_jax.report.markup import Markup, element, folded, table


def options_part(config: Mapping[str, Any], default: Mapping[str, Any]) -> Markup:
  """The options of `config`. `default` has the same form; an option that it lacks counts as different. Without defaults
  all options are shown."""
  ours, theirs = dict(_flat(config)), dict(_flat(default))
  parts = {path: value for path, value in ours.items() if path.startswith("parts.")}
  ours = {path: value for path, value in ours.items() if path not in parts}
  changed = [(path, value, theirs.get(path, "")) for path, value in ours.items() if value != theirs.get(path)]
  everything = table(["option", "value"], map(_row, ours.items()), label="All options")
  if not default:
    inside = [everything]
  elif changed:
    title = "Options that differ from the defaults"
    inside = [table(["option", "value", "default"], map(_row, changed), label=title, titled=True)]
  else:
    inside = [element("p", "Every option has its default.")]
  if default:
    inside.append(folded(f"All {len(ours)} options", everything))
  if parts:
    named = ((path.removeprefix("parts."), value) for path, value in parts.items())
    title = "What the search method consists of"
    inside.append(folded(title, table(["part", "value"], map(_row, named), label=title)))
  return Markup("".join(inside))


def _row(values: tuple[str, ...]) -> list[Markup]:
  path, *rest = values
  return [element("code", _breakable(path)), *(element("code", value) for value in rest)]


def _breakable(path: str) -> list[str]:
  """The path with places where a line may end."""
  return [piece for part in re.split(r"(?<=[._])", path) for piece in (part, element("wbr"))][:-1]


def _flat(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
  """Every option by its path, as JSON text."""
  for name, value in values.items():
    if isinstance(value, Mapping) and value:
      yield from _flat(value, f"{within}{name}.")
    else:
      yield f"{within}{name}", json.dumps(value, ensure_ascii=False)
