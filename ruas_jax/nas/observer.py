"""Diagnostics during a search, and the early stop that they may cause."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ruas_jax.bilevel import split_inexact
from ruas_jax.engine.feed import StreamFeed
from ruas_jax.nas.methods import Stop
from ruas_jax.nas.options import SearchOptions
from ruas_jax.nas.state import SearchState
from ruas_jax.nas.stopping import MEASURED, is_time


class DiagnosticsObserver:
  """The `engine.observer.Observer` of a search.

  Attributes:
    every: steps between two measurements.
    stopped: whether the early-stopping rule has ended the search.
  """

  def __init__(self, options: SearchOptions, diagnose: Callable, held_out: StreamFeed, key: jax.Array):
    self.every, self.stopped = options.measure_every, False
    self._rule: Stop = options.parts.stop
    self._options, self._diagnose, self._held_out, self._key = options.diagnostics, diagnose, held_out, key
    self._measured = 0
    self._past: dict[str, list[float]] = {}
    self._alphas: list[list[np.ndarray]] = []  # floating leaves of alpha at the last measurements

  def __call__(self, state: SearchState, batches: tuple) -> tuple[dict[str, Any], bool]:
    """The metrics of a measurement, and whether to stop. `batches` are those of the last step."""
    options = self._options
    held_out = jax.tree.map(lambda leaf: leaf[0], self._held_out.read(1))[0]
    metrics = jax.device_get(self._diagnose(state, batches[0], held_out, self._key))
    self._measured += 1
    leaves = jax.device_get(jax.tree.leaves(split_inexact(state.alpha)[0]))
    self._alphas = [*self._alphas, leaves][-options.window - 1 :]
    for name, value in metrics.items():
      if self._rule != "never" and name.endswith(MEASURED[self._rule]):
        past = self._past.setdefault(name, [])
        past.append(float(value))
        self.stopped |= is_time(self._rule, options, past)
    return metrics | ({"early_stop": 1} if self.stopped else {}), self.stopped

  def chosen_alpha(self, alpha: Any) -> Any:
    """The alpha to return: the last one, or after an early stop by the eigenvalue the one of `window` measurements
    before."""
    if not self.stopped or self._rule != "eigenvalue":
      return alpha
    floating, merge = split_inexact(alpha)
    return merge(jax.tree.unflatten(jax.tree.structure(floating), self._alphas[0]))

  def about(self) -> dict[str, Any]:
    """The observer's state as a JSON object."""
    return {
      "measured": self._measured,
      "past": {name: list(past) for name, past in self._past.items()},  # copied: written in the background
      "alphas": [[leaf.tolist() for leaf in leaves] for leaves in self._alphas],
      "stopped": self.stopped,
    }

  def restore(self, about: dict[str, Any], state: SearchState) -> None:
    """Restores the state that `about` holds. `state` gives the shapes."""
    self._measured, self._past, self.stopped = about["measured"], about["past"], about["stopped"]
    shapes = jax.tree.leaves(split_inexact(state.alpha)[0])
    self._alphas = [
      [np.array(leaf, shape.dtype) for leaf, shape in zip(leaves, shapes, strict=True)] for leaves in about["alphas"]
    ]
    self._held_out.seek(self._measured)
