"""The options of a search. jax is imported only to check an estimator, so that command help is fast."""

from __future__ import annotations

import ast
import dataclasses
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
  import optax

  from ruas_jax.bilevel import Estimator

from ruas_jax.errors import UserError, require_at_least
from ruas_jax.optimizers import OptimizerOptions

WEIGHT_OPTIMIZER = OptimizerOptions("sgd", learning_rate=0.005, momentum=0.9)
"""Default optimiser of the weights, the paper's."""
ALPHA_OPTIMIZER = OptimizerOptions("adam", learning_rate=3e-4, momentum=0.5, weight_decay=1e-3)
"""Default optimiser of alpha, the paper's (section 4.1)."""


@dataclasses.dataclass(frozen=True)
class DiagnosticsOptions:
  """Additional measurements during a search; see `nas.diagnostics`."""

  every: int = 0
  """Steps between two measurements; 0: no measurements."""
  batches: int = 4
  """Number of validation batches for the average of the Hessian with respect to alpha."""
  early_stop: bool = False
  """Stop when the largest eigenvalue of the Hessian grows fast (RobustDARTS, Zela et al. 2020), and return the alpha
  of `window` measurements before."""
  window: int = 5
  """Number of measurements in the average of the eigenvalue, and distance between the two averages compared."""
  threshold: float = 0.75
  """Stop when the average `window` measurements ago is smaller than this share of the present average."""

  def __post_init__(self):
    require_at_least(0, self, "search.diagnostics", "every")
    require_at_least(1, self, "search.diagnostics", "batches", "window")
    require_at_least(0, self, "search.diagnostics", "threshold", most=1)
    if self.early_stop and not self.every:
      raise UserError("`search.diagnostics.early_stop` needs `search.diagnostics.every`: set a number of steps")


@dataclasses.dataclass(frozen=True)
class SearchOptions:
  """A search of any problem. In every step each player updates its alpha and then its weights."""

  steps: int = 1800
  """Number of steps of the search."""
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
  """Estimator of the hypergradient. unrolled, mixed_mode and forward are exact for `unroll_steps` inner steps."""
  hypergradient_options: tuple[str, ...] = ()
  """Options of the estimator as NAME=VALUE, for example `terms=20 scale=0.1` for neumann."""
  unroll_steps: int = 1
  """T, the number of inner steps in the hypergradient (its horizon)."""
  tolerance: float = 0.0
  """A player's inner loop ends when its training loss changes by less than this share between two iterations. 0: it
  runs for its full length. A loop of one or two iterations always does."""
  diagnostics: DiagnosticsOptions = DiagnosticsOptions()
  cost: str | None = None
  """Name of the architecture's cost that the search takes into account."""
  cost_weight: float = 0.0
  """Weight of the expected cost in the outer losses; 0: it is not part of them."""
  cost_target: float | None = None
  """Only cost above this value counts: the weight then multiplies max(0, cost / target - 1)."""

  def __post_init__(self):
    require_at_least(1, self, "search", "steps", "unroll_steps")
    require_at_least(0, self, "search", "tolerance", "cost_weight")
    if self.cost_target is not None:
      require_at_least(0, self, "search", "cost_target")
      if not self.cost_target:
        raise UserError("`search.cost_target` must be above 0; a target of 0 is a cost without a target")
    for name in ("cost_weight", "cost_target"):
      if getattr(self, name) and not self.cost:
        raise UserError(f"`search.{name}` needs `search.cost`: name a cost")
    if self.hypergradient != "unrolled" or self.hypergradient_options:  # the default needs no check, hence no jax
      self._check_estimator()

  def _check_estimator(self) -> None:
    import optax

    try:
      self.estimator(optax.identity())
    except (TypeError, ValueError) as error:
      raise UserError(f"`search.hypergradient`: {error}") from None

  def estimator(self, inner: optax.GradientTransformation) -> Estimator:
    """The hypergradient estimator through `unroll_steps` updates of `inner`."""
    from ruas_jax.bilevel import make_estimator

    options = dict(map(_named_value, self.hypergradient_options))
    return make_estimator(self.hypergradient, inner=inner, steps=self.unroll_steps, **options)


def _named_value(text: str) -> tuple[str, int | float | str]:
  name, equals, value = text.partition("=")
  if not (name and equals and value):
    raise ValueError(f"an option must be NAME=VALUE, not {text!r}")
  try:
    return name, ast.literal_eval(value)
  except (SyntaxError, ValueError):  # not a Python literal: a word
    return name, value
