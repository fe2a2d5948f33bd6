"""Making a table's file from the metrics of its entries."""

import time
from typing import Any

import jax
import numpy as np

from benchmarks.tabular.card import card_of
from benchmarks.tabular.making import Entry, identity_of
from ruas_jax.engine.compiler import compiler_options
from ruas_jax.nas.benchmark.space import Space
from ruas_jax.nas.benchmark.storage import Content

_ROUNDS = 40


def content_of(space: Space, found: dict[Entry, dict[str, Any]]) -> Content:
  """The content of the file."""
  architectures, lengths = space.architectures(), space.recipe.lengths
  shape = (1 + max(entry.seed for entry in found), len(architectures), len(lengths))
  metrics = {name: np.full(shape, np.nan, np.float32) for name in next(iter(found.values()))}
  for entry, values in found.items():
    for name, row in values.items():
      metrics[name][entry.seed, entry.architecture] = row
  costs = {
    "parameters": np.array([space.parameters(each) for each in architectures], np.int32),
    "macs": np.array([space.macs(each) for each in architectures], np.int32),
  }
  if space.timed:
    costs["latency"] = estimate_latency(space)
  about = {
    "space": space.name,
    "edges": space.edges,
    "operations": space.operations,
    "objective": space.objective,
    "lengths": lengths,
    "identity": identity_of(space),
    "card": card_of(space, metrics),
  }
  return Content(about, metrics, costs)


def estimate_latency(space: Space) -> np.ndarray:
  """`[architectures]`, milliseconds: that of the first operation on all edges, and for every edge what its operation
  adds to it when it is the only other one. The best of several rounds, because other programs only make it slower."""
  assert space.timed
  inputs, weights = space.timed(), jax.jit(space.trained.init)(jax.random.key(0))
  run = jax.jit(space.trained.__call__, compiler_options=compiler_options())
  choices = [(edge, name) for edge in range(len(space.edges)) for name in space.operations[1:]]
  plain = (space.operations[0],) * len(space.edges)
  measured = [plain, *((*plain[:edge], name, *plain[edge + 1 :]) for edge, name in choices)]
  seconds = np.full(len(measured), np.inf)
  for _ in range(_ROUNDS):
    for index, names in enumerate(measured):
      shares = np.eye(len(space.operations), dtype=np.float32)[list(map(space.operations.index, names))]
      begun = time.perf_counter()
      run(weights, shares, inputs).block_until_ready()
      seconds[index] = min(seconds[index], time.perf_counter() - begun)
  added = dict(zip(choices, seconds[1:] - seconds[0], strict=True))
  totals = [seconds[0] + sum(added.get(choice, 0.0) for choice in enumerate(names)) for names in space.architectures()]
  return np.array(totals, np.float32) * 1e3
