"""Everything that determines the numbers of a run, as JSON. A run is resumed only if this identity is the same."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax

from ruas_jax.engine.sources import Source, base_of, in_words, spec_of


def plain(value: Any) -> Any:
  """The value as it is after writing and reading JSON; functions and optimisers become their names."""
  if isinstance(value, dict):
    return {name: plain(item) for name, item in value.items()}
  if callable(value) or isinstance(value, optax.GradientTransformation):
    return _name_of(value)
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  return value.item() if isinstance(value, np.generic) else value


def describe_source(source: Source) -> str:
  """The number and shapes of the elements, and for a part, a hash of its indices."""
  base, indices = base_of(source)
  shown = "" if len(indices) == len(base) else f", those of {hashlib.sha256(indices.tobytes()).hexdigest()[:12]}"
  leaves = [f"{jax.tree_util.keystr(path)} {in_words(leaf)}" for path, leaf in jax.tree.leaves_with_path(spec_of(base))]
  return f"{len(source)} elements{shown}: {', '.join(leaves)}"


def differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
  """The differences between two identities, as text with the path."""
  if isinstance(before, dict) and isinstance(now, dict):
    for name in [*before, *(name for name in now if name not in before)]:
      yield from differences(before.get(name), now.get(name), f"{path}.{name}" if path else name)
  elif before != now:
    yield f"{path.removeprefix('config.')} was {before!r} and is {now!r}"


def _name_of(given: Callable | optax.GradientTransformation) -> str:
  function = getattr(given, "update", given)
  return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
