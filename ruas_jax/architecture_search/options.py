"""The options of a search. An estimator alone needs jax, and imports it: a command's help shows the options only."""

from __future__ import annotations

import ast
import dataclasses
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
  import optax

  from ruas_jax.bilevel import Estimator

from ruas_jax.errors import UserError, require_at_least
from ruas_jax.optimizers import OptimizerOptions


@dataclasses.dataclass(frozen=True)
class DiagnosticsOptions:
  """What a search measures of itself beside its losses; see `architecture_search.diagnostics`."""

  every: int = 0
  """Rounds between two measurements; 0: none are made."""
  batches: int = 4
  """Validation batches that the Hessian in alpha is averaged over."""
  early_stop: bool = False
  """Stop by the rule of RobustDARTS (Zela et al. 2020), once the Hessian's largest eigenvalue grows fast, and go back
  to the alpha of `window` measurements before."""
  window: int = 5
  """Measurements that an eigenvalue is averaged over, and how far back the rule looks."""
  threshold: float = 0.75
  """The rule stops when the average of `window` measurements ago is less than this share of the present one."""

  def __post_init__(self):
    require_at_least(0, self, "search.diagnostics", "every")
    require_at_least(1, self, "search.diagnostics", "batches", "window")
    require_at_least(0, self, "search.diagnostics", "threshold", most=1)
    if self.early_stop and not self.every:
      raise UserError("search.diagnostics.early_stop needs search.diagnostics.every, the rounds between measurements")


@dataclasses.dataclass(frozen=True)
class SearchOptions:
  """The cooperative search of section 3.2; every step is one round of Algorithm 1's outer loop."""

  steps: int = 1800
  """Rounds of the outer loop."""
  strategy: Literal["cooperative", "separate", "joint"] = "cooperative"
  """cooperative: Algorithm 1; separate: first the IEM alone, then the NRM, half of the steps each; joint: one bilevel
  problem over everything at once (the paper's Fig. 9)."""
  hypergradient: Literal[
    "unrolled",
    "mixed_mode",
    "forward",
    "truncated",
    "first_order",
    "finite_difference",
    "cg",
    "neumann",
    "nystrom",
    "evolution",
  ] = "unrolled"
  """Estimator of the outer gradient; unrolled, mixed_mode and forward are exact for `unroll_steps` inner steps."""
  hypergradient_options: tuple[str, ...] = ()
  """The estimator's own, each as NAME=VALUE, for instance `terms=20 scale=0.1` for neumann."""
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
  parameters: int = 0
  """Most parameters of the network that is derived; 0: as many as come."""
  diagnostics: DiagnosticsOptions = DiagnosticsOptions()

  def __post_init__(self):
    require_at_least(1, self, "search", "steps", "unroll_steps", "illumination_length", "denoising_length")
    require_at_least(0, self, "search", "tolerance", "parameters")
    if self.hypergradient != "unrolled" or self.hypergradient_options:  # the default needs no check, and no jax
      self._check_estimator()

  def _check_estimator(self) -> None:
    import optax

    try:
      self.estimator(optax.identity())
    except (TypeError, ValueError) as error:
      raise UserError(f"search.hypergradient: {error}") from None

  def estimator(self, inner: optax.GradientTransformation) -> Estimator:
    """The hypergradient estimator through `unroll_steps` updates of `inner`."""
    from ruas_jax.bilevel import make_estimator

    options = dict(map(_named_value, self.hypergradient_options))
    return make_estimator(self.hypergradient, inner=inner, steps=self.unroll_steps, **options)


def _named_value(text: str) -> tuple[str, int | float | str]:
  name, equals, value = text.partition("=")
  if not (name and equals and value):
    raise ValueError(f"options are NAME=VALUE, not {text!r}")
  try:
    return name, ast.literal_eval(value)
  except (SyntaxError, ValueError):  # a word
    return name, value
