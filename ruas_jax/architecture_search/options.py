"""What a search can be told."""

import dataclasses
from typing import Literal

from ruas_jax.errors import require_at_least
from ruas_jax.optimizers import OptimizerOptions


@dataclasses.dataclass(frozen=True)
class SearchOptions:
  """The cooperative search of section 3.2; every step is one round of Algorithm 1's outer loop."""

  steps: int = 1800
  """Rounds of the outer loop."""
  strategy: Literal["cooperative", "separate", "joint"] = "cooperative"
  """cooperative: Algorithm 1; separate: first the IEM alone, then the NRM, half of the steps each; joint: one bilevel
  problem over everything at once (the paper's Fig. 9)."""
  hypergradient: Literal["unrolled", "first_order"] = "unrolled"
  """Estimator of the outer gradient; unrolled is exact for `unroll_steps` inner steps."""
  unroll_steps: int = 1
  """T, inner steps that the hypergradient looks ahead."""
  cooperation: Literal["equation_5", "algorithm_1"] = "equation_5"
  """Where beta L_n is differentiated for the IEM: at the looked-ahead weights (eq. 5), or at the current ones, as line
  5 of Algorithm 1 prints it."""
  illumination_length: int = 1
  """Most iterations of the IEM's inner loop in a round (lines 4-7)."""
  denoising_length: int = 1
  """Most iterations of the NRM's inner loop in a round (lines 9-12); the joint strategy has only the other loop."""
  tolerance: float = 0.0
  """An inner loop has converged when its training loss changes by less than this share between iterations; 0: never."""
  weight_optimizer: OptimizerOptions = OptimizerOptions("sgd", learning_rate=0.005, momentum=0.9)
  """Updates the weights, and is what the hypergradient looks through."""
  alpha_optimizer: OptimizerOptions = OptimizerOptions("adam", learning_rate=3e-4, momentum=0.5, weight_decay=1e-3)
  """Updates alpha (section 4.1)."""

  def __post_init__(self):
    require_at_least(1, self, "search", "steps", "unroll_steps", "illumination_length", "denoising_length")
    require_at_least(0, self, "search", "tolerance")
