"""Numbers that a population sweeps, in place of the same numbers of the options."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any


def with_numbers(options: Any, hyper: Mapping[str, Any], path: str) -> Any:
  """The options, at `path` in the configuration, with the values that `hyper` has for their paths.

  Traced values cannot be checked, so the result is a plain namespace with the fields of the options; the options
  themselves where `hyper` has nothing for them.
  """
  if not any(name.startswith(f"{path}.") for name in hyper):
    return options
  values = {}
  for field in dataclasses.fields(options):
    name, value = f"{path}.{field.name}", getattr(options, field.name)
    values[field.name] = with_numbers(value, hyper, name) if dataclasses.is_dataclass(value) else hyper.get(name, value)
  return types.SimpleNamespace(**values)
