"""Options dataclasses: their paths, made from nested dictionaries, and with single values replaced. Every value is
checked."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
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
    raise UserError(f"{where}: unknown option {unknown[0]!r}{perhaps_meant(unknown[0], paths(kind))}")
  return kind(**{name: _value(hints[name], value, f"{where}: {name}") for name, value in values.items()})


def replaced(options: Any, values: Mapping[str, Any], group: str = "") -> Any:
  """The options with values replaced, by path; `group` is the path of these options with a dot, for errors."""
  hints = typing.get_type_hints(type(options))
  changes: dict[str, Any] = {}
  below: dict[str, dict[str, Any]] = {}
  for path, value in values.items():
    name, dot, rest = path.partition(".")
    if name not in hints:
      known = [group + other for other in paths(type(options))]
      raise UserError(f"there is no option `{group}{path}`{perhaps_meant(group + path, known)}")
    if not dot:
      changes[name] = _value(hints[name], value, f"`{group}{name}`")
    elif _is_named_values(hints[name]):  # NAME=VALUE texts, of which one is replaced
      texts = changes.get(name, getattr(options, name)) or ()
      changes[name] = (*(text for text in texts if text.rpartition("=")[0] != rest), f"{rest}={value!r}")
    elif is_group(hints[name]):
      below.setdefault(name, {})[rest] = value
    else:
      raise UserError(f"there is no option `{group}{path}`: `{group}{name}` is a value, not a group of options")
  for name, inner in below.items():
    changes[name] = replaced(changes.get(name, getattr(options, name)), inner, f"{group}{name}.")
  return dataclasses.replace(options, **changes)


def is_group(hint: Any) -> bool:
  """Whether an option of this type is a group of options."""
  return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _is_named_values(hint: Any) -> bool:
  """Whether an option of this type is a list of texts."""
  return tuple[str, ...] in (hint, *typing.get_args(hint))


def paths(kind: type) -> dict[str, Any]:
  """The type of every option below an options dataclass, by path; groups are not listed."""
  found = {}
  for name, hint in typing.get_type_hints(kind).items():
    if is_group(hint):
      found |= {f"{name}.{path}": inner for path, inner in paths(hint).items()}
    else:
      found[name] = hint
  return found


def perhaps_meant(name: str, known: Iterable[str]) -> str:
  """The end of an error message about an unknown option: the paths in `known` that may be meant, or nothing.

  They are the options of the group `name`; or the option whose path differs only in dots and underscores; or the
  options whose last name is the most similar.
  """
  names = {path: path.rpartition(".")[2] for path in known}
  similar = difflib.get_close_matches(name.rpartition(".")[2], names.values(), n=1, cutoff=0.75)
  choices = (
    [path for path in names if path.startswith(f"{name}.")],
    [path for path in names if path.replace(".", "_") == name.replace(".", "_")],
    [path for path in names if names[path] in similar],
  )
  meant = next(filter(None, choices), [])
  return f"; perhaps you meant {' or '.join(meant[:4])}" if meant else ""


def _value(hint, value, where):
  if is_group(hint):
    if not isinstance(value, hint | dict):
      raise UserError(f"{where} = {value!r}: must be a group of options: {', '.join(typing.get_type_hints(hint))}")
    return value if isinstance(value, hint) else from_dict(hint, value, where)
  origin = typing.get_origin(hint)
  if origin is tuple and isinstance(value, list | tuple):
    return tuple(_value(typing.get_args(hint)[0], item, where) for item in value)
  if origin is typing.Literal:
    valid = value in typing.get_args(hint)
  elif origin in (types.UnionType, typing.Union):
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    if value is None and len(kinds) < len(typing.get_args(hint)):
      return None
    if len(kinds) == 1 and typing.get_origin(kinds[0]):  # words or a list
      return _value(kinds[0], value, where)
    valid = isinstance(value, (*kinds, *[int] * (float in kinds)))
  else:
    valid = isinstance(value, (int, float) if hint is float else origin or hint)
  if not valid or (isinstance(value, bool) and bool not in (hint, *typing.get_args(hint))):
    raise UserError(f"{where} = {value!r}: {_allowed(hint)}")
  return value


def _allowed(hint: Any) -> str:
  """The values that an option may have, in words."""
  if typing.get_origin(hint) is typing.Literal:
    return f"allowed are {', '.join(map(repr, typing.get_args(hint)))}"
  kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
  words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "nothing"}
  return f"must be {' or '.join(words.get(kind, 'a list') for kind in kinds)}"
