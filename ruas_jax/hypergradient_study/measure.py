"""Measuring estimators at a fixed point. Each is compiled once for all values of epsilon and of the inner rate."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from ruas_jax.bilevel import compare, decompose, make_estimator
from ruas_jax.hypergradient_study.frozen import Frozen, precision

_EPSILON = 0.01  # default of finite_difference
_DIAGNOSTICS = ("residual", "inner_gradient_norm")  # of implicit estimators
ITSELF: Final = "itself"

Row = dict[str, Any]


class Case(NamedTuple):
  """One measurement.

  Attributes:
    sweep: name of its sweep.
    estimator: a name in `bilevel.ESTIMATORS`.
    options: options of the estimator, except epsilon.
    steps: number of inner steps.
    dtype: "float64", "float32" or "bfloat16".
    losses: "raw" or "smoothed".
    against: number of inner steps of the reference, the exact hypergradient in float64; or `ITSELF` in float64.
    rate: learning rate of the inner optimiser; None: that of the problem.
    epsilon: epsilon of finite_difference; None: its default.
  """

  sweep: str
  estimator: str
  options: Mapping[str, Any] = {}
  steps: int = 1
  dtype: str = "float32"
  losses: str = "raw"
  against: int | Literal["itself"] = 1
  rate: float | None = None
  epsilon: float | None = None

  def reference(self) -> str:
    """The reference in words."""
    if self.against == ITSELF:
      return "the same in float64"
    return f"exact through {self.against} step{'s' * (self.against > 1)}, float64"


class Program:
  """A compiled function of the inner rate and of epsilon. Outputs are numpy arrays in float64.

  Attributes:
    compile_seconds: time of tracing, lowering and compiling; less if a compilation cache on disk had the program.
    temporary_bytes: peak memory of the program in addition to its inputs and outputs, as the compiler counts it; None
      if the compiler does not count it.
  """

  def __init__(self, function: Callable, arguments: tuple, dtype: str):
    self._dtype = dtype
    with precision(dtype):
      self._arguments = jax.device_put(arguments)
      start = time.perf_counter()
      self._compiled = jax.jit(function).lower(*self._arguments, *self._numbers(1.0, 1.0)).compile()
      self.compile_seconds = time.perf_counter() - start
    analysis = self._compiled.memory_analysis()
    self.temporary_bytes = analysis.temp_size_in_bytes if analysis else None

  def __call__(self, rate: float, epsilon: float = _EPSILON) -> Any:
    with precision(self._dtype):
      out = jax.device_get(self._compiled(*self._arguments, *self._numbers(rate, epsilon)))
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), out)

  def seconds(self, rate: float) -> float:
    """Duration of one call."""
    with precision(self._dtype):
      numbers = self._numbers(rate, _EPSILON)
      start = time.perf_counter()
      jax.block_until_ready(self._compiled(*self._arguments, *numbers))
      return time.perf_counter() - start

  def _numbers(self, rate, epsilon):
    dtype = jax.numpy.dtype(self._dtype)
    return np.asarray(rate, dtype), np.asarray(epsilon, dtype)


class Laboratory:
  """Measures cases at one point."""

  def __init__(self, frozen: Frozen, *, seed: int = 0):
    self._frozen, self._seed = frozen, seed
    self._programs: dict[tuple, Program] = {}

  def measure(self, case: Case) -> Row:
    """A row of the results, without `milliseconds`, which `add_times` fills in.

    `relative_error`, `cosine` and `sign_agreement` compare with `reference`. `implicit_relative_error` is the same
    difference divided by the norm of the implicit term of the exact hypergradient, the small part that is estimated.
    """
    program, rate, epsilon = self.program(case), self._rate(case), case.epsilon or _EPSILON
    gradient, out = program(rate, epsilon)
    exact, implicit = self._exact(case.losses, case.steps if case.against == ITSELF else case.against)(rate)
    if case.against == ITSELF:
      exact, _ = self.program(case._replace(dtype="float64"))(rate, epsilon)
    with precision("float64"):
      compared = {name: float(value) for name, value in compare(gradient, exact).items()}
    scale = np.linalg.norm(exact) / np.linalg.norm(implicit)
    return {
      "sweep": case.sweep,
      "estimator": case.estimator,
      "options": " ".join(f"{name}={value}" for name, value in case.options.items()),
      "epsilon": epsilon if case.estimator == "finite_difference" else None,
      "steps": case.steps,
      "rate": rate,
      "dtype": case.dtype,
      "losses": case.losses,
      "reference": case.reference(),
      "relative_error": compared["relative_error"],
      "implicit_relative_error": compared["relative_error"] * scale,
      "cosine": compared["cosine"],
      "sign_agreement": compared["sign_agreement"],
      "milliseconds": None,
      "temporary_bytes": program.temporary_bytes,
      "compile_seconds": program.compile_seconds,
      **{name: float(out.diagnostics[name]) if name in out.diagnostics else None for name in _DIAGNOSTICS},
    }

  def times(self, cases: Sequence[Case], *, rounds: int, seconds: float = np.inf) -> list[np.ndarray]:
    """Seconds of each case's program, `[rounds]` or fewer. The programs take turns, so that other work on the machine
    affects all of them equally. A program whose calls have taken `seconds` in total is not called again."""
    programs = [(self.program(case), self._rate(case)) for case in cases]
    taken = [[] for _ in cases]
    for _ in range(rounds):
      for (program, rate), times in zip(programs, taken, strict=True):
        if sum(times) < seconds:
          times.append(program.seconds(rate))
    return [np.asarray(times) for times in taken]

  def add_times(self, cases: Sequence[Case], rows: Sequence[Row], *, rounds: int, seconds: float) -> None:
    """Fills `milliseconds`, the median of some calls, into the rows of the cases. Cases with one program share it."""
    distinct = {self._key(case): case for case in cases}
    taken = self.times([*distinct.values()], rounds=rounds, seconds=seconds)
    medians = {key: 1e3 * float(np.median(times)) for key, times in zip(distinct, taken, strict=True)}
    for case, row in zip(cases, rows, strict=True):
      row["milliseconds"] = medians[self._key(case)]

  def program(self, case: Case) -> Program:
    """The estimator of the case: `-> (gradient [m], HypergradientOut)`. The whole record is returned, because the
    compiler would otherwise drop work that it does not need, such as the inner step of the first-order estimate."""

    def estimate(others, weights, alpha, inner_state, train_batches, val_batch, rate, epsilon):
      options = dict(case.options) | ({"epsilon": epsilon} if case.estimator == "finite_difference" else {})
      estimator = make_estimator(case.estimator, inner=self._frozen.make_inner(rate), steps=case.steps, **options)
      problem, key = self._frozen.problems[case.losses](others), jax.random.key(self._seed)
      out = estimator(problem, weights, alpha, inner_state, train_batches, val_batch, key=key)
      return ravel_pytree(out.gradient)[0], out

    return self._once(self._key(case), estimate, case.steps, case.dtype)

  def _exact(self, losses: str, steps: int) -> Program:
    """The exact hypergradient and its implicit term, `-> ([m], [m])` in float64."""

    def terms(others, weights, alpha, inner_state, train_batches, val_batch, rate, epsilon):
      del epsilon
      problem, inner = self._frozen.problems[losses](others), self._frozen.make_inner(rate)
      terms = decompose(problem, inner, weights, alpha, inner_state, train_batches, val_batch)
      return ravel_pytree(terms.total())[0], ravel_pytree(terms.implicit)[0]

    return self._once(("exact", losses, steps), terms, steps, "float64")

  def _once(self, key, function, steps, dtype) -> Program:
    if key not in self._programs:
      self._programs[key] = Program(function, self._frozen.arguments(steps, dtype), dtype)
    return self._programs[key]

  def _key(self, case: Case) -> tuple:
    return case.estimator, tuple(sorted(case.options.items())), case.steps, case.dtype, case.losses

  def _rate(self, case: Case) -> float:
    return self._frozen.rate if case.rate is None else case.rate
