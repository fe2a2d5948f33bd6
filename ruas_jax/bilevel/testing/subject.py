"""One estimator on one reference problem: its estimates, and the values to compare them with. Use it in float64.

Vectors are raveled pytrees, numpy arrays: `[n]` weights and `[m]` numbers in alpha.
"""

import threading
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from ruas_jax.bilevel.estimators import make_estimator
from ruas_jax.bilevel.inner import inner_steps
from ruas_jax.bilevel.testing.testbed import INNERS, ReferenceProblem, ravel


class Row(NamedTuple):
  """One number of the table.

  Attributes:
    problem, estimator: names.
    options: options of the estimator.
    inner: the inner optimiser, a name in `testbed.INNERS`.
    steps: number of inner steps.
    against: name of the reference value.
    measure: meaning of `value`.
    value: the number; NaN if the estimate is NaN.
    bar: threshold: the largest allowed value.
    met: whether the value is at most the threshold.
  """

  problem: str
  estimator: str
  options: dict[str, Any]
  inner: str
  steps: int
  against: str
  measure: str
  value: float
  bar: float
  met: bool


class Known:
  """Reference values that several checks of one problem use; each is computed once."""

  def __init__(self):
    self._values, self._lock = {}, threading.Lock()

  def get(self, name, compute):
    with self._lock:
      if name not in self._values:
        self._values[name] = compute()
      return self._values[name]


class Subject:
  """The argument of a check: an estimator and a reference problem."""

  def __init__(self, estimator: str, reference: ReferenceProblem, known: Known):
    self.estimator, self.reference, self._known = estimator, reference, known

  def runs(self) -> list[tuple[str, int]]:
    """Inner optimisers and their numbers of steps."""
    return [(inner, steps) for inner, horizons in self.reference.runs.items() for steps in horizons]

  def row(self, inner, steps, options, against, measure, value, bar) -> Row:
    value = float(value)
    return Row(self.reference.name, self.estimator, options, inner, steps, against, measure, value, bar, value <= bar)

  def error_row(self, inner, steps, options, against, expected, bar) -> Row:
    """A row with the relative error of the estimate."""
    estimate, _ = self.estimate(inner, steps, options)
    return self.row(inner, steps, options, against, "relative error", relative_error(estimate, expected), bar)

  def estimate(self, inner, steps, options) -> tuple[np.ndarray, dict[str, jax.Array]]:
    """The hypergradient `[m]` and the diagnostics."""
    gradient, diagnostics = jax.jit(self._run(self.estimator, inner, steps, options))(*self.arguments(steps))
    return np.asarray(gradient), diagnostics

  def estimates(self, inner, steps, option, values, options) -> np.ndarray:
    """The hypergradients `[k, m]` for `k` values of one option, which are traced."""
    arguments = self.arguments(steps)
    estimate = lambda value: self._run(self.estimator, inner, steps, {option: value, **options})(*arguments)[0]
    return np.asarray(jax.jit(lambda values: lax.map(estimate, values))(values))

  def unrolled(self, inner: str, steps: int) -> tuple[np.ndarray, str]:
    """The hypergradient `[m]` through all steps, and its source: the closed form, or else `unrolled`."""
    if self.reference.closed_form:
      return self.reference.closed_form.unrolled(inner, steps, steps), "closed form"
    compute = lambda: jax.jit(self._run("unrolled", inner, steps, {}))(*self.arguments(steps))[0]
    return np.asarray(self._known.get(("unrolled", inner, steps), compute)), "unrolled"

  def reached(self, inner: str, steps: int) -> np.ndarray:
    """The weights `[n]` after the steps."""
    optimizer = INNERS[inner].optimizer

    @jax.jit
    def run(weights, alpha, train_batches, _):
      return inner_steps(self.reference.problem, optimizer, weights, alpha, optimizer.init(weights), train_batches)[0]

    return ravel(run(*self.arguments(steps)))

  def outer_slopes(self, inner: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions `[d, m]`, and the slope `[d]` along each of the outer loss after the steps. The slopes are central
    differences with three widths, extrapolated to width zero. For zero steps, they are at the incoming weights."""
    optimizer, problem = INNERS[inner].optimizer, self.reference.problem
    center, unravel = ravel(self.reference.alpha), ravel_pytree(self.reference.alpha)[1]
    directions = np.random.default_rng(0).normal(size=(4, center.size))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    widths = np.array([0.02, 0.01, 0.005])
    points = center + np.array([1, -1])[:, None, None, None] * widths[:, None, None] * directions

    @jax.jit
    def outer_losses(points, weights, train_batches, val_batch):
      def value(point):
        reached, alpha = weights, unravel(point)
        if steps:
          reached, *_ = inner_steps(problem, optimizer, weights, alpha, optimizer.init(weights), train_batches)
        return problem.outer_loss(reached, alpha, val_batch)

      return lax.map(value, points)

    weights, _, *batches = self.arguments(steps)
    above, below = np.asarray(outer_losses(points.reshape(-1, center.size), weights, *batches)).reshape(2, 3, 4)
    wide, middle, narrow = (above - below) / (2 * widths)[:, None]
    first, second = (4 * middle - wide) / 3, (4 * narrow - middle) / 3
    return directions, (16 * second - first) / 15

  def implicit_terms(self, inner: str, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, str]:
    """At the weights after the steps: the inner Hessian `[n, n]`, the mixed derivative `[n, m]`, the outer gradients
    with respect to weights `[n]` and alpha `[m]`, and their source."""
    closed_form = self.reference.closed_form
    if closed_form:
      weights, _ = closed_form.trajectory(inner, steps, steps)
      return closed_form.hessian, closed_form.mixed, *closed_form.outer_gradients(weights), "closed form"

    @jax.jit
    def dense(weights, alpha, train_batches, val_batch):
      (_, unravel_w), (alpha, unravel_a) = (ravel_pytree(tree) for tree in (self.reference.weights, alpha))
      batch = jax.tree.map(lambda leaf: leaf[steps - 1], train_batches)
      inner = lambda w, a: self.reference.problem.inner_loss(unravel_w(w), unravel_a(a), batch)
      outer = lambda w, a: self.reference.problem.outer_loss(unravel_w(w), unravel_a(a), val_batch)
      second = jax.jacfwd(jax.grad(inner), argnums=(0, 1))(weights, alpha)
      return *second, *jax.grad(outer, argnums=(0, 1))(weights, alpha)

    _, alpha, train_batches, val_batch = self.arguments(steps)
    compute = lambda: dense(self.reached(inner, steps), alpha, train_batches, val_batch)
    hessian, mixed, to_weights, direct = map(np.asarray, self._known.get(("dense", inner, steps), compute))
    return hessian, mixed, to_weights, direct, "dense Hessian"

  def _run(self, name, inner, steps, options):
    optimizer = INNERS[inner].optimizer
    estimator = make_estimator(name, inner=optimizer, steps=steps, **options)

    def run(weights, alpha, train_batches, val_batch):
      state, key = optimizer.init(weights), jax.random.key(0)
      out = estimator(self.reference.problem, weights, alpha, state, train_batches, val_batch, key=key)
      return ravel_pytree(out.gradient)[0], out.diagnostics

    return run

  def arguments(self, steps: int):
    """`(weights, alpha, train batches of the steps, validation batch)`."""
    train_batches = jax.tree.map(lambda leaf: leaf[: max(steps, 1)], self.reference.train_batches)
    return self.reference.weights, self.reference.alpha, train_batches, self.reference.val_batch


def relative_error(estimate: np.ndarray, expected: np.ndarray) -> float:
  """Relative error of a vector, in the Euclidean norm."""
  return float(np.linalg.norm(estimate - expected) / np.linalg.norm(expected))
