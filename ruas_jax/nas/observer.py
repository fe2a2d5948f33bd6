"""Diagnostics during a search, and the early stop that they may cause."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ruas_jax.bilevel import split_inexact
from ruas_jax.engine.feed import Feed
from ruas_jax.nas.methods import Stop
from ruas_jax.nas.options import SearchOptions
from ruas_jax.nas.state import SearchState
from ruas_jax.nas.stopping import MEASURED, is_time


class EarlyStop:
  """The early-stopping rule of one search.

  Attributes:
    stopped: whether the rule has ended the search.
  """

  def __init__(self, options: SearchOptions):
    self.stopped = False
    self._rule: Stop = options.parts.stop
    self._options = options.diagnostics
    self._past: dict[str, list[float]] = {}
    self._alphas: list[list[np.ndarray]] = []  # floating leaves of alpha at the last measurements

  def add(self, metrics: dict[str, Any], alpha: list[np.ndarray]) -> dict[str, Any]:
    """The metrics of a measurement for the log. `alpha` are the floating leaves of alpha, numpy arrays."""
    self._alphas = [*self._alphas, alpha][-self._options.window - 1 :]
    for name, value in metrics.items():
      if self._rule != "never" and name.endswith(MEASURED[self._rule]):
        past = self._past.setdefault(name, [])
        past.append(float(value))
        self.stopped |= is_time(self._rule, self._options, past)
    return metrics | ({"early_stop": 1} if self.stopped else {})

  def chosen_alpha(self, alpha: Any) -> Any:
    """The alpha to return: the last one, or after an early stop by the eigenvalue the one of `window` measurements
    before."""
    if not self.stopped or self._rule != "eigenvalue":
      return alpha
    floating, merge = split_inexact(alpha)
    return merge(jax.tree.unflatten(jax.tree.structure(floating), self._alphas[0]))

  def about(self) -> dict[str, Any]:
    """The state as a JSON object."""
    return {
      "past": {name: list(past) for name, past in self._past.items()},  # copied: written in the background
      "alphas": [[leaf.tolist() for leaf in leaves] for leaves in self._alphas],
      "stopped": self.stopped,
    }

  def restore(self, about: dict[str, Any], dtypes: Sequence[Any]) -> None:
    """Restores the state that `about` holds. `dtypes` are those of the floating leaves of alpha."""
    self._past, self.stopped = about["past"], about["stopped"]
    self._alphas = [
      [np.array(leaf, dtype) for leaf, dtype in zip(leaves, dtypes, strict=True)] for leaves in about["alphas"]
    ]


class DiagnosticsObserver:
  """The `engine.observer.Observer` of a search, or of the searches of a population.

  Attributes:
    every: steps between two measurements.
  """

  def __init__(
    self, options: SearchOptions, diagnose: Callable, held_out: Feed, keys: Any, *, members: int | None = None
  ):
    """`diagnose(state, train, validation, keys, going) -> metrics` reads its validation batches from `held_out`. With
    `members`, all its arguments and metrics have a leading axis of members. What is not `going` need not be measured.
    """
    self.every = options.measure_every
    self._diagnose, self._held_out, self._keys = diagnose, held_out, keys
    self._members, self._measured = members, 0
    self._rules = [EarlyStop(options) for _ in range(members or 1)]

  @property
  def stopped(self) -> list[bool]:
    """For each search, whether its rule has ended it."""
    return [rule.stopped for rule in self._rules]

  def __call__(self, state: SearchState, batches: tuple, going: Sequence[bool]) -> list[dict[str, Any]]:
    """The metrics of a measurement, for each search; none where it is not `going`."""
    ticket = jax.tree.map(lambda leaf: leaf[0], self._held_out.read(1))
    (held_out,) = self._held_out.fetch(self._held_out.data, ticket)
    metrics = jax.device_get(self._diagnose(state, batches[0], held_out, self._keys, np.array(going)))
    alpha = jax.device_get(jax.tree.leaves(split_inexact(state.alpha)[0]))
    self._measured += 1
    of = lambda member: jax.tree.map(lambda leaf: leaf[member], (metrics, alpha)) if self._members else (metrics, alpha)
    return [
      rule.add(*of(member)) if goes else {} for member, (rule, goes) in enumerate(zip(self._rules, going, strict=True))
    ]

  def chosen_alpha(self, alpha: Any, member: int = 0) -> Any:
    """The alpha that a search returns, given its last one."""
    return self._rules[member].chosen_alpha(alpha)

  def about(self) -> dict[str, Any]:
    """The observer's state as a JSON object."""
    return {"measured": self._measured, "members": [rule.about() for rule in self._rules]}

  def restore(self, about: dict[str, Any], state: SearchState) -> None:
    """Restores the state that `about` holds. `state` gives the dtypes."""
    self._measured = about["measured"]
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(split_inexact(state.alpha)[0])]
    members = about.get("members", [about])  # snapshots of earlier versions hold a single search
    for rule, of_member in zip(self._rules, members, strict=True):
      rule.restore(of_member, dtypes)
    self._held_out.seek(self._measured)
