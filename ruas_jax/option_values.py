"""Options dataclasses: their paths, made from nested dictionaries, and with single values replaced. Every value is
checked."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator
from typing import Any

from ruas_jax.errors import UserError


def from_dict(kind: type, values: dict, where: str):
  """An options dataclass from the nested dictionaries of its JSON. Unknown names and wrong types are errors.

  Raises:
    UserError: it names `where` and the field.
  """
  if not isinstance(values, dict):
    raise UserError(f"{where} must be a JSON object")
  hints = typing.get_type_hints(kind)
  unknown = sorted(set(values) - set(hints))
  if unknown:
    raise UserError(f"{where}: unknown option {unknown[0]!r}")
  return kind(**{name: _value(hints[name], value, f"{where}: {name}") for name, value in values.items()})


def replaced(options: Any, names: list[str], value: Any, path: str) -> Any:
  """The options with one value replaced; `path` is the full name of the option, for errors."""
  name, *rest = names
  prefix = path.removesuffix(".".join(names))
  hints = typing.get_type_hints(type(options))
  if name not in hints:
    near = difflib.get_close_matches(name, hints, n=1)
    raise UserError(f"there is no option `{path}`" + (f": perhaps you meant `{prefix}{near[0]}`" if near else ""))
  if not rest:
    value = _value(hints[name], value, f"`{path}`")
  elif not dataclasses.is_dataclass(hints[name]):
    raise UserError(f"there is no option `{path}`: `{prefix}{name}` is a value, not a group of options")
  else:
    value = replaced(getattr(options, name), rest, value, path)
  return dataclasses.replace(options, **{name: value})


def list_options(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
  """The path and the type of every option in this dataclass and its groups, such as ("loss.eta_t", float)."""
  for name, hint in typing.get_type_hints(kind).items():
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
      yield from list_options(hint, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", hint


def _value(hint, value, where):
  if isinstance(hint, type) and dataclasses.is_dataclass(hint):
    return value if isinstance(value, hint) else from_dict(hint, value, where)
  origin = typing.get_origin(hint)
  if origin is tuple and isinstance(value, list | tuple):
    return tuple(_value(typing.get_args(hint)[0], item, where) for item in value)
  if origin is typing.Literal:
    valid = value in typing.get_args(hint)
  elif origin in (types.UnionType, typing.Union):
    valid = isinstance(value, typing.get_args(hint))
  else:
    valid = isinstance(value, (int, float) if hint is float else origin or hint)
  if not valid or (isinstance(value, bool) and hint is not bool):
    raise UserError(f"{where} = {value!r}: {_allowed(hint)}")
  return value


def _allowed(hint: Any) -> str:
  """The values that an option may have, in words."""
  if typing.get_origin(hint) is typing.Literal:
    return f"allowed are {', '.join(map(repr, typing.get_args(hint)))}"
  kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
  words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "nothing"}
  return f"must be {' or '.join(words.get(kind, 'a list') for kind in kinds)}"
