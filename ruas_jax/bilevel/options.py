"""Checks of the options with which estimators and solvers are made by name."""

import inspect
from collections.abc import Callable
from typing import Any


def check_options(what: str, factory: Callable, options: dict[str, Any], given: tuple[str, ...] = ()) -> None:
  """Raises TypeError if `factory` does not have one of the options, or needs one that is missing.

  Args:
    what: name of the factory in the error.
    factory: a function with keyword arguments.
    options: the options of the user.
    given: names of the arguments that are not options.
  """
  known = {name: about for name, about in inspect.signature(factory).parameters.items() if name not in given}
  unknown = sorted(set(options) - set(known))
  if unknown:
    raise TypeError(f"{what} has no option {unknown[0]!r}; it has {', '.join(known) or 'no options'}")
  missing = [name for name, about in known.items() if about.default is about.empty and name not in options]
  if missing:
    raise TypeError(f"{what} needs the option {missing[0]!r}")
