"""Measuring a search while it runs, and stopping it early."""

from collections.abc import Callable, Iterator
from typing import Any

import jax

from ruas_jax.architecture_search.diagnostics import rises_fast
from ruas_jax.architecture_search.options import DiagnosticsOptions
from ruas_jax.architecture_search.state import SearchState


class Observer:
  """Diagnostics now and then, and the early stop that they may call for; `chosen` is then the alpha to go back to."""

  def __init__(self, options: DiagnosticsOptions, diagnose: Callable, held_out: Iterator, key: jax.Array):
    self._options, self._diagnose, self._held_out, self._key = options, diagnose, held_out, key
    self._largest: dict[str, list[float]] = {}
    self._alphas: list[Any] = []
    self.chosen: Any = None

  def __call__(self, step: int, state: SearchState, batch: tuple) -> tuple[dict[str, Any], bool]:
    options = self._options
    if not options.every or step % options.every:
      return {}, False
    metrics = jax.device_get(self._diagnose(state, batch[0], next(self._held_out), self._key))
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
