"""Tables of latency: how long the network takes on a device, by the operations of its cells.

A table is a JSON file that `ruas latency` writes. It belongs to a device, an image size and the options of a network.
"""

import dataclasses
import json
import os
from typing import Any

import numpy as np
from etils import epath

from ruas_jax.errors import UserError
from ruas_jax.lowlight.cost import CellCost, NetworkCost
from ruas_jax.lowlight.operations import CANDIDATES, Operation, operation_names
from ruas_jax.lowlight.options import NetworkOptions

_FORMAT = 2  # 1 timed skip as a convolution
_COMMAND = "`ruas latency` makes one"


def latency_record(cost: NetworkCost, network: NetworkOptions, about: dict[str, Any]) -> dict[str, Any]:
  """The content of a table: the cost in seconds, what it belongs to, and `about` the measurement."""
  return {
    "format": _FORMAT,
    **about,
    "network": _form(network),
    "operations": cost.names,
    "seconds": {
      name: {"edge": cell.edge.tolist(), "pair": cell.pair.tolist(), "fixed": cell.fixed}
      for name, cell in cost.cells.items()
    },
  }


def read_latency(
  path: str | os.PathLike, network: NetworkOptions, operations: tuple[Operation, ...] = CANDIDATES
) -> NetworkCost:
  """The cost in seconds that a table holds.

  Raises:
    UserError: the file cannot be read, is no such table, was made by another version, or belongs to another network or
      other operations.
  """
  try:
    record = json.loads(epath.Path(path).read_text())
    cost, measured, form = latency_of_record(record), record["network"], record["format"]
  except (OSError, ValueError, TypeError, KeyError) as error:
    raise UserError(f"`search.latency_table` {path}: not a readable table of latency ({error!r}); {_COMMAND}") from None
  if form != _FORMAT:
    raise UserError(f"`search.latency_table` {path} was made by another version of ruas_jax; {_COMMAND}")
  if cost.names != operation_names(operations):
    raise UserError(f"`search.latency_table` {path} belongs to the operations {', '.join(cost.names)}; {_COMMAND}")
  for option, value in _form(network).items():
    if measured.get(option) != value:
      raise UserError(
        f"`search.latency_table` {path} belongs to another network: `network.{option}` is {measured.get(option)!r} "
        f"there and {value!r} here; {_COMMAND}"
      )
  return cost


def latency_of_record(record: dict[str, Any]) -> NetworkCost:
  """The cost in seconds of a table's content."""
  cells = {
    name: CellCost(np.array(cell["edge"], float), np.array(cell["pair"], float), float(cell["fixed"]))
    for name, cell in record["seconds"].items()
  }
  return NetworkCost(cells, tuple(record["operations"]))


def _form(network: NetworkOptions) -> dict[str, Any]:
  """The options that decide how long a forward pass takes, by path: all but numbers that are multiplied with
  something."""
  found = {"layout": network.layout, "precision": network.precision}
  for group in ("illumination", "denoising"):
    values = dataclasses.asdict(getattr(network, group))
    found |= {f"{group}.{name}": value for name, value in values.items() if not isinstance(value, float)}
  return found
