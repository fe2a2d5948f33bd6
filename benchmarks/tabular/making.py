"""Training all entries of a table, in chunks that are appended to a file, so that a stopped run is resumed."""

import dataclasses
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.tabular.training import ORDER_SEED, make_training
from ruas_jax.engine.progress import say
from ruas_jax.errors import UserError
from ruas_jax.nas.benchmark.space import Space

SEEDS = 3  # seeds of an architecture that has several


class Entry(NamedTuple):
  """A training: the index of the architecture in the table, and the seed of its first weights."""

  architecture: int
  seed: int


def entries_of(count: int, several: int) -> list[Entry]:
  """All entries of a table of `count` architectures: seed 0 for all, and seeds 0 to 2 for `several` random ones.

  These come first, so that the noise between seeds is known early.
  """
  order = np.random.default_rng(0).permutation(count).tolist()
  repeated = [Entry(index, seed) for index in order[:several] for seed in range(SEEDS)]
  return repeated + [Entry(index, 0) for index in order[several:]]


def train_entries(
  space: Space, entries: list[Entry], path: pathlib.Path, chunk: int = 16
) -> dict[Entry, dict[str, Any]]:
  """The metrics of every entry, lists over the four lengths. Entries that `path` has are not trained again.

  Every chunk is one line of `path`. If the process is killed, the chunk at which it works is lost.

  Raises:
    UserError: the file belongs to another recipe or other data.
  """
  identity = identity_of(space)
  found = dict(_read(path, identity))
  missing = [entry for entry in entries if entry not in found]
  if not missing:
    return found
  train, choices = make_training(space, chunk), _choices(space)
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("a") as file:
    if file.tell() and not path.read_bytes().endswith(b"\n"):
      file.write("\n")  # ends the line of a killed process
    for first in range(0, len(missing), chunk):
      part, begun = missing[first : first + chunk], time.monotonic()
      metrics = train([choices[entry.architecture] for entry in part], [entry.seed for entry in part])
      values = {name: rows.tolist() for name, rows in metrics.items()}
      file.write(json.dumps({"identity": identity, "entries": part, "metrics": values}) + "\n")
      file.flush()
      os.fsync(file.fileno())
      found.update(_entries(part, values))
      seconds = (time.monotonic() - begun) / len(part)
      say(f"{space.name}: {first + len(part)} of {len(missing)} trained, {seconds:.2f} s each")
  return found


def identity_of(space: Space) -> str:
  """A digest of the recipe and the data."""
  digest = hashlib.sha256(json.dumps([space.name, dataclasses.asdict(space.recipe), ORDER_SEED]).encode())
  for leaf in jax.tree.leaves(space.data()):
    digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()


def _choices(space: Space) -> list[tuple[int, ...]]:
  return [tuple(map(space.operations.index, architecture)) for architecture in space.architectures()]


def _read(path: pathlib.Path, identity: str) -> Iterator[tuple[Entry, dict[str, Any]]]:
  for line in path.read_text().splitlines() if path.exists() else ():
    try:
      record = json.loads(line)
    except json.JSONDecodeError:
      continue  # the line at which a process was killed
    if record["identity"] != identity:
      raise UserError(f"{path} belongs to another recipe or other data; choose another file")
    yield from _entries([Entry(*entry) for entry in record["entries"]], record["metrics"])


def _entries(part: list[Entry], values: dict[str, list]) -> Iterator[tuple[Entry, dict[str, Any]]]:
  for row, entry in enumerate(part):
    yield entry, {name: rows[row] for name, rows in values.items()}
