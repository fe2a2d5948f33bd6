"""Numbers of the options that a population sweeps: they are traced values in the program."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any


def with_numbers(options: Any, hyper: Mapping[str, Any], path: str) -> Any:
  """The options, which are at `path` in the configuration, with the values that `hyper` has for them.

  Traced values cannot be validated, so the result is a plain namespace with the fields of the options. If `hyper` has
  no value for them, the options are returned unchanged.
  """
  if not any(name.startswith(f"{path}.") for name in hyper):
    return options
  values = {}
  for field in dataclasses.fields(options):
    name, value = f"{path}.{field.name}", getattr(options, field.name)
    values[field.name] = with_numbers(value, hyper, name) if dataclasses.is_dataclass(value) else hyper.get(name, value)
  return types.SimpleNamespace(**values)


def is_zero(number: Any) -> bool:
  """Whether the number is zero at every run of the program, so that its term needs no work. A swept number is not."""
  return isinstance(number, int | float) and number == 0
