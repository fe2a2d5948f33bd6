"""The options of a search. An estimator alone needs jax, and imports it: a command's help shows the options only."""

from __future__ import annotations

import ast
import dataclasses
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
  import optax

  from ruas_jax.bilevel import Estimator

from ruas_jax.errors import UserError, require_at_least


@dataclasses.dataclass(frozen=True)
class DiagnosticsOptions:
  """What a search measures of itself beside its losses; see `nas.diagnostics`."""

  every: int = 0
  """Steps between two measurements; 0: none are made."""
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
      raise UserError("search.diagnostics.early_stop needs search.diagnostics.every, the steps between measurements")


@dataclasses.dataclass(frozen=True)
class SearchOptions:
  """A search, whatever the problem. In every step each player updates its alpha and then its weights."""

  steps: int = 1800
  """Steps of the search."""
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
  """Options of the estimator, each as NAME=VALUE, for instance `terms=20 scale=0.1` for neumann."""
  unroll_steps: int = 1
  """T, inner steps that the hypergradient looks ahead."""
  tolerance: float = 0.0
  """A player's inner loop has converged when its training loss changes by less than this share between iterations; 0:
  never."""
  diagnostics: DiagnosticsOptions = DiagnosticsOptions()

  def __post_init__(self):
    require_at_least(1, self, "search", "steps", "unroll_steps")
    require_at_least(0, self, "search", "tolerance")
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
