"""Measuring a search while it runs, and stopping it early."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ruas_jax.architecture_search.diagnostics import rises_fast
from ruas_jax.architecture_search.options import DiagnosticsOptions
from ruas_jax.architecture_search.state import SearchState
from ruas_jax.data.feed import StreamFeed


class Observer:
  """Diagnostics now and then, and the early stop that they may call for.

  Attributes:
    every: how many rounds lie between two looks.
    chosen: the alpha to go back to, once the search has been stopped; else None.
  """

  def __init__(self, options: DiagnosticsOptions, diagnose: Callable, held_out: StreamFeed, key: jax.Array):
    self.every, self.chosen = options.every, None
    self._options, self._diagnose, self._held_out, self._key = options, diagnose, held_out, key
    self._looks = 0
    self._largest: dict[str, list[float]] = {}
    self._alphas: list[dict[str, np.ndarray]] = []

  def __call__(self, state: SearchState, batch: tuple) -> tuple[dict[str, Any], bool]:
    """The metrics of a look, and whether to stop; `batch` is what the last round was fed with."""
    options = self._options
    held_out = jax.tree.map(lambda leaf: leaf[0], self._held_out.read(1))[0]
    metrics = jax.device_get(self._diagnose(state, batch[0], held_out, self._key))
    self._looks += 1
    self._alphas = [*self._alphas, jax.device_get(state.alpha)][-options.window - 1 :]
    stop = False
    for name, value in metrics.items():
      if name.endswith("_hessian_largest"):
        past = self._largest.setdefault(name, [])
        past.append(float(value))
        stop |= options.early_stop and rises_fast(past, window=options.window, threshold=options.threshold)
    if stop:
      self.chosen = self._alphas[0]
    return metrics | ({"early_stop": 1} if stop else {}), stop

  def about(self) -> dict[str, Any]:
    """All that it remembers, as a JSON object."""
    alphas = [{name: alpha.tolist() for name, alpha in alphas.items()} for alphas in self._alphas]
    largest = {name: list(past) for name, past in self._largest.items()}  # it is written while the run goes on
    return {"looks": self._looks, "largest": largest, "alphas": alphas, "stopped": self.chosen is not None}

  def restore(self, about: dict[str, Any], dtype: np.dtype) -> None:
    """Remembers what `about` says; alphas are of `dtype`."""
    self._looks, self._largest = about["looks"], about["largest"]
    self._alphas = [{name: np.array(alpha, dtype) for name, alpha in alphas.items()} for alphas in about["alphas"]]
    self.chosen = self._alphas[0] if about["stopped"] else None
    self._held_out.seek(self._looks)
