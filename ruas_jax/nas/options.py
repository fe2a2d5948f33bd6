"""The options of a search. jax is imported only to check an estimator, so that command help is fast."""

from __future__ import annotations

import ast
import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
  import optax

  from ruas_jax.bilevel import Estimator

from ruas_jax.errors import UserError, require_at_least
from ruas_jax.nas.methods import (
  METHODS,
  Annealing,
  Hypergradient,
  MethodName,
  Parts,
  Perturbation,
  RelaxationName,
  Selection,
  Stop,
)
from ruas_jax.optimizers import OptimizerOptions
from ruas_jax.option_values import perhaps_meant

WEIGHT_OPTIMIZER = OptimizerOptions("sgd", learning_rate=0.005, momentum=0.9)
"""Default optimiser of the weights, the paper's."""
ALPHA_OPTIMIZER = OptimizerOptions("adam", learning_rate=3e-4, momentum=0.5, weight_decay=1e-3)
"""Default optimiser of alpha, the paper's (section 4.1)."""


@dataclasses.dataclass(frozen=True)
class DiagnosticsOptions:
  """Additional measurements during a search; see `nas.diagnostics`."""

  every: int = 0
  """Steps between two measurements; 0: none, or a fiftieth of the steps where `search.stop` needs them."""
  batches: int = 4
  """Number of validation batches for the average of the Hessian with respect to alpha."""
  window: int = 5
  """Number of measurements in the averages of `search.stop`."""
  threshold: float = 0.75
  """eigenvalue: stop when the average `window` measurements ago is smaller than this share of the present average."""
  skips: int = 2
  """skips: stop when so many choices of a player are skip."""
  match: float = 0.3
  """gradient_match: stop when the average cosine of training and validation gradients is smaller."""

  def __post_init__(self):
    require_at_least(0, self, "search.diagnostics", "every")
    require_at_least(1, self, "search.diagnostics", "batches", "window", "skips")
    require_at_least(0, self, "search.diagnostics", "threshold", most=1)
    require_at_least(-1, self, "search.diagnostics", "match", most=1)


@dataclasses.dataclass(frozen=True)
class SearchOptions:
  """A search of any problem. In every step each player updates its alpha and then its weights."""

  steps: int = 1800
  """Number of steps of the search."""
  method: MethodName = "darts"
  """Search method. It gives every option below that is None its value (`nas.methods`)."""
  hypergradient: Hypergradient | None = None
  """Estimator of the hypergradient. unrolled, mixed_mode and forward are exact for `unroll_steps` inner steps."""
  hypergradient_options: tuple[str, ...] = ()
  """Options of the estimator as NAME=VALUE, for example `terms=20 scale=0.1` for neumann."""
  unroll_steps: int = 1
  """T, the number of inner steps in the hypergradient (its horizon)."""
  tolerance: float = 0.0
  """A player's inner loop ends when its training loss changes by less than this share between two iterations. 0: it
  runs for its full length. A loop of one or two iterations always does."""
  relaxation: RelaxationName | None = None
  """How alpha becomes mixing weights. softmax, sigmoid and sparse (sparsemax) compute them; gumbel, dirichlet and
  reinmax draw them anew for every batch."""
  straight_through: bool | None = None
  """Draw one operation for each choice, with the gradient of the mixing weights (gumbel only)."""
  temperature: float | None = None
  """Temperature by which alpha is divided, in the first step."""
  final_temperature: float | None = None
  """Temperature in the last step; 0: it stays the same."""
  annealing: Annealing | None = None
  """How the temperature gets from the first to the last."""
  partial_channels: int | None = None
  """Mix one of so many channels, drawn anew for every batch; the others skip. 1: all channels."""
  perturbation: Perturbation | None = None
  """Change of the mixing weights while the weights learn: random, or the worst one (adversarial, which takes seven more
  gradients)."""
  perturbation_size: float | None = None
  """Largest change of a mixing weight. It grows linearly over the steps."""
  regularisers: tuple[str, ...] | None = None
  """Terms of alpha that are added to the outer losses, as NAME=WEIGHT: entropy, beta, zero_one, distance or
  weight_decay."""
  ramp: float | None = None
  """Share of the steps over which the regularisers' weights rise linearly from zero."""
  warm_up: float | None = None
  """Share of the steps before alpha moves."""
  selection: Selection | None = None
  """How the architecture is chosen in the end: the strongest operations, a draw, the operations whose removal hurts
  most (perturbation, DARTS-PT), or the strongest ones within `budget`."""
  tuning_steps: int | None = None
  """Steps that tune the weights between two choices of the selection perturbation."""
  budget: tuple[str, ...] | None = None
  """Largest costs of the architecture as NAME=LIMIT, for the selection budget; the names are those of the problem's
  costs."""
  stop: Stop | None = None
  """Rule that ends the search early. eigenvalue: the largest eigenvalue of the Hessian in alpha grows fast; the result
  is the alpha of `window` measurements before (RobustDARTS). skips: a player chooses skip too often (DARTS+).
  gradient_match: training and validation gradients of the weights differ (OLES, which stops single operations)."""
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
    self._check_names()
    parts = self.parts
    require_at_least(1e-3, parts, "search", "temperature")
    require_at_least(0, parts, "search", "final_temperature", "perturbation_size")
    require_at_least(1, parts, "search", "partial_channels")
    require_at_least(0, parts, "search", "ramp", "warm_up", most=1)
    if parts.straight_through and parts.relaxation != "gumbel":
      raise UserError(f"`search.straight_through` is for gumbel, not for `search.relaxation` {parts.relaxation}")
    if parts.relaxation == "dirichlet" and (parts.temperature != 1 or parts.final_temperature):
      raise UserError("`search.temperature`: the relaxation dirichlet has none; leave it out, or choose gumbel")
    require_at_least(0, parts, "search", "tuning_steps")
    self._check_effects()
    regulariser_weights(parts)
    if (parts.selection == "budget") != bool(limits_of(parts)):
      raise UserError("`search.budget` and `search.selection` budget need each other: set both, or neither")
    if self.hypergradient not in (None, "unrolled") or self.hypergradient_options:  # no jax where no check is needed
      self._check_estimator()

  @property
  def parts(self) -> Parts:
    """The parts of the search: the method's, replaced by the options that are not None."""
    given = {field.name: getattr(self, field.name) for field in dataclasses.fields(Parts)}
    return dataclasses.replace(
      METHODS[self.method].parts, **{name: value for name, value in given.items() if value is not None}
    )

  @property
  def scheduled(self) -> bool:
    """Whether the numbers of a step depend on the total number of steps."""
    return self.parts.scheduled or bool(self.measure_every and not self.diagnostics.every)

  @property
  def measure_every(self) -> int:
    """Steps between two measurements; 0: none."""
    needed = self.parts.stop != "never"
    return self.diagnostics.every or (max(1, self.steps // 50) if needed else 0)

  def _check_names(self) -> None:
    """Raises UserError for an unknown word, which a type checker or the command line may not have seen."""
    hints = typing.get_type_hints(SearchOptions)
    for name in ("method", *(field.name for field in dataclasses.fields(Parts))):
      value, known = getattr(self, name), _words(hints[name])
      if known and value is not None and value not in known:
        meant = perhaps_meant(str(value), known)
        option = f"search.{name}"
        raise UserError(f"`{option}` {value!r} is not one of {', '.join(known)}{meant}")

  def _check_effects(self) -> None:
    """Raises UserError for an option that changes nothing without another one."""
    parts = self.parts
    needs = {
      "annealing": ("final_temperature", bool(parts.final_temperature)),
      "perturbation_size": ("perturbation", parts.perturbation != "none"),
      "tuning_steps": ("selection", parts.selection == "perturbation"),
    }
    for name, (other, has_effect) in needs.items():
      if getattr(self, name) is not None and not has_effect:
        raise UserError(f"`search.{name}` has no effect without `search.{other}`: set that too, or leave it out")

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
    return make_estimator(self.parts.hypergradient, inner=inner, steps=self.unroll_steps, **options)


def _named_value(text: str) -> tuple[str, int | float | str]:
  name, equals, value = text.partition("=")
  if not (name and equals and value):
    raise ValueError(f"an option must be NAME=VALUE, not {text!r}")
  try:
    return name, ast.literal_eval(value)
  except (SyntaxError, ValueError):  # not a Python literal: a word
    return name, value


REGULARISERS = ("entropy", "beta", "zero_one", "distance", "weight_decay")
"""The names of the regularisers."""
COST_WEIGHT, COST_TARGET = "search.cost_weight", "search.cost_target"
_OF_METHOD = ("search.temperature", "search.perturbation_size")
SWEPT = (*_OF_METHOD, COST_WEIGHT, COST_TARGET)
"""The numbers of a search that a population can sweep, beside the weights of regularisers."""
SWEPT_WEIGHT = "search.regularisers."
"""The path of a regulariser's weight, without the regulariser's name."""


def regulariser_weights(parts: Parts) -> dict[str, float]:
  """The weight of every regulariser.

  Raises:
    UserError: a name is unknown or a weight is not a finite number.
  """
  for text in parts.regularisers:
    name, equals, value = text.rpartition("=")
    check_regulariser(name if equals else value)
  return _named_numbers("regularisers", parts.regularisers)


def limits_of(parts: Parts) -> dict[str, float]:
  """The largest cost by name. Raises UserError where one is not a finite number."""
  return _named_numbers("budget", parts.budget)


def _named_numbers(option: str, texts: tuple[str, ...]) -> dict[str, float]:
  numbers, path = {}, f"search.{option}"
  for text in texts:
    name, _, value = text.rpartition("=")
    try:
      numbers[name] = float(value)
    except ValueError:
      numbers[name] = math.nan
    if not (name and math.isfinite(numbers[name])):
      raise UserError(f"`{path}` must be NAME=NUMBER with a finite number, not {text!r}")
  return numbers


def check_regulariser(name: str) -> None:
  """Raises UserError for an unknown regulariser."""
  if name not in REGULARISERS:
    meant = perhaps_meant(name, REGULARISERS)
    raise UserError(f"`search.regularisers` {name!r} is not one of {', '.join(REGULARISERS)}{meant}")


def is_swept(path: str) -> bool:
  """Whether a population can sweep the option with this path: a number in `SWEPT`, or a regulariser's weight.

  Raises:
    UserError: the regulariser is unknown.
  """
  if path.startswith(SWEPT_WEIGHT):
    check_regulariser(path.removeprefix(SWEPT_WEIGHT))
    return True
  return path in SWEPT


def at_hyper(parts: Parts, hyper: Any) -> tuple[Parts, dict[str, Any]]:
  """The parts and the regularisers' weights, with the values that a population sweeps: entries of `hyper` that have the
  paths of these options."""
  weights = regulariser_weights(parts)
  if not isinstance(hyper, Mapping):
    return parts, weights
  numbers = {path.removeprefix("search."): hyper[path] for path in _OF_METHOD if path in hyper}
  swept = {str(path): value for path, value in hyper.items() if str(path).startswith(SWEPT_WEIGHT)}
  weights |= {path.removeprefix(SWEPT_WEIGHT): value for path, value in swept.items()}
  return dataclasses.replace(parts, **numbers), weights


def _words(hint: Any) -> list[str]:
  """The words that an option of this type may be; none if it is not a choice of words."""
  choices = [hint, *typing.get_args(hint)]
  return [word for one in choices if typing.get_origin(one) is Literal for word in typing.get_args(one)]
