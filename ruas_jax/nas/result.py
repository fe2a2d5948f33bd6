"""What a search returns."""

from typing import Any, NamedTuple

from ruas_jax.nas.state import SearchState


class SearchResult(NamedTuple):
  """Attributes:
  derived: what the problem's `derive` makes of alpha.
  alpha: architecture logits; where the search was stopped early, those that the rule goes back to.
  weights: of the supernet.
  metrics: a record for each step: `step`, and of every player its losses and scalars (`engine.metrics.StepMetrics`).
  state: the last state, with alpha and weights in it.
  """

  derived: Any
  alpha: Any
  weights: Any
  metrics: list[dict[str, Any]]
  state: SearchState
