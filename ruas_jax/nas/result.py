"""The result of a search."""

from typing import Any, NamedTuple

from ruas_jax.nas.state import SearchState


class SearchResult(NamedTuple):
  """Attributes:
  derived: result of the problem's `derive`.
  alpha: architecture logits; after an early stop, those that the rule returns to.
  weights: weights of the supernet.
  metrics: one record for each step: `step`, and the losses and scalars of every player (`engine.metrics.StepMetrics`).
  state: the last state, including alpha and weights.
  """

  derived: Any
  alpha: Any
  weights: Any
  metrics: list[dict[str, Any]]
  state: SearchState
