"""The options of RUAS's search. This file does not import jax, so that command help is fast."""

import dataclasses
from typing import Literal

from ruas_jax.errors import UserError, require_at_least
from ruas_jax.nas.options import ALPHA_OPTIMIZER, WEIGHT_OPTIMIZER, SearchOptions
from ruas_jax.optimizers import OptimizerOptions
from ruas_jax.option_values import perhaps_meant

COSTS = ("parameters", "macs", "latency")


@dataclasses.dataclass(frozen=True)
class RUASSearchOptions(SearchOptions):
  """The search of both modules (section 3.2). A step is one round of Algorithm 1's outer loop."""

  strategy: Literal["cooperative", "separate", "joint"] = "cooperative"
  """cooperative: Algorithm 1. separate: the IEM alone for half of the steps, then the NRM alone. joint: one bilevel
  problem for both modules (the paper's Fig. 9)."""
  cooperation: Literal["equation_5", "algorithm_1"] = "equation_5"
  """Weights at which beta L_n is differentiated for the IEM: after the inner steps (eq. 5), or the current ones (line 5
  of Algorithm 1)."""
  illumination_length: int = 1
  """Maximum iterations of the IEM's inner loop in a step (lines 4-7)."""
  denoising_length: int = 1
  """Maximum iterations of the NRM's inner loop in a step (lines 9-12). joint uses only illumination_length."""
  weight_optimizer: OptimizerOptions = WEIGHT_OPTIMIZER
  """Optimiser of the weights. The hypergradient is computed through its updates."""
  alpha_optimizer: OptimizerOptions = ALPHA_OPTIMIZER
  """Optimiser of alpha (section 4.1)."""
  parameters: int = 0
  """Maximum number of parameters of the derived network; 0: no limit."""
  cost: str | None = None
  """Cost of the derived network that the search takes into account: parameters, macs (multiply-accumulates of the
  folded network) or latency (of `latency_table`). It is a share of the most expensive architecture's cost."""
  latency_table: str | None = None
  """Table of latency of a device, from `ruas latency`."""

  def __post_init__(self):
    super().__post_init__()
    require_at_least(1, self, "search", "illumination_length", "denoising_length")
    require_at_least(0, self, "search", "parameters")
    if self.cost is not None and self.cost not in COSTS:
      raise UserError(
        f"`search.cost` {self.cost!r} is unknown{perhaps_meant(self.cost, COSTS)} (known: {', '.join(COSTS)})"
      )
    if self.cost == "latency" and self.latency_table is None:
      raise UserError("`search.cost` latency needs `search.latency_table`: make one with `ruas latency`")
