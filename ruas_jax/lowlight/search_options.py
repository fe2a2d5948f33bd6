"""The options of RUAS's search. Imports no jax, so that a command's help is there at once."""

import dataclasses
from typing import Literal

from ruas_jax.errors import require_at_least
from ruas_jax.nas.options import SearchOptions
from ruas_jax.optimizers import OptimizerOptions


@dataclasses.dataclass(frozen=True)
class RUASSearchOptions(SearchOptions):
  """The search of both modules (section 3.2); every step is one round of Algorithm 1's outer loop."""

  strategy: Literal["cooperative", "separate", "joint"] = "cooperative"
  """cooperative: Algorithm 1; separate: first the IEM alone, then the NRM, half of the steps each; joint: one bilevel
  problem over everything at once (the paper's Fig. 9)."""
  cooperation: Literal["equation_5", "algorithm_1"] = "equation_5"
  """Where beta L_n is differentiated for the IEM: at the looked-ahead weights (eq. 5), or at the current ones, as line
  5 of Algorithm 1 prints it."""
  illumination_length: int = 1
  """Most iterations of the IEM's inner loop in a round (lines 4-7)."""
  denoising_length: int = 1
  """Most iterations of the NRM's inner loop in a round (lines 9-12); the joint strategy has only the other loop."""
  weight_optimizer: OptimizerOptions = OptimizerOptions("sgd", learning_rate=0.005, momentum=0.9)
  """Updates the weights, and is what the hypergradient looks through."""
  alpha_optimizer: OptimizerOptions = OptimizerOptions("adam", learning_rate=3e-4, momentum=0.5, weight_decay=1e-3)
  """Updates alpha (section 4.1)."""
  parameters: int = 0
  """Most parameters of the network that is derived; 0: any number."""

  def __post_init__(self):
    super().__post_init__()
    require_at_least(1, self, "search", "illumination_length", "denoising_length")
    require_at_least(0, self, "search", "parameters")
