"""The conformance table: every estimator compared with known values, in float64.

    rows = conformance()
    assert all(row.met for row in rows)

To test a custom estimator, give it a name and a check for the value that it claims to compute:

    ESTIMATORS["mine"] = mine                  # (*, inner, steps, **options) -> Estimator
    CHECKS["mine"] = check_exact()             # or check_implicit(...), or a custom check
    conformance(estimators=["mine"])
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from ruas_jax.bilevel.estimators import make_estimator
from ruas_jax.bilevel.inner import inner_step
from ruas_jax.bilevel.problem import checked
from ruas_jax.bilevel.testing.subject import Known, Row, Subject, relative_error
from ruas_jax.bilevel.testing.testbed import INNERS, RATE, ReferenceProblem, ravel, reference_problems

_EXACT_BAR, _SOLVED_BAR = 1e-12, 1e-10  # relative errors
_DIFFERENCE_BAR = 1e-8  # precision of an extrapolated central difference
_SLOPE_BAR = 0.1
_STANDARD_ERRORS_BAR = 3.0


Check = Callable[[Subject], Iterator[Row]]


def conformance(
  problems: Iterable[ReferenceProblem] | None = None, estimators: Iterable[str] | None = None
) -> list[Row]:
  """The rows of the table, by default over `reference_problems()` and all `CHECKS`.

  Raises:
    ValueError: an estimator has no check.
    TypeError: a loss does not return one real floating number.
  """
  names = list(CHECKS) if estimators is None else list(estimators)
  unchecked = sorted(set(names) - set(CHECKS))
  if unchecked:
    raise ValueError(f"conformance: no check for the estimator {unchecked[0]!r}; CHECKS has {', '.join(CHECKS)}")
  subjects = []
  for reference in reference_problems() if problems is None else problems:
    reference, known = _in_float64(reference), Known()
    subjects += [Subject(name, reference, known) for name in names]

  def check(subject):
    with jax.enable_x64(True):  # for this thread
      return list(CHECKS[subject.estimator](subject))

  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # most of the time is compilation
    return [row for rows in pool.map(check, subjects) for row in rows]


def _in_float64(reference: ReferenceProblem) -> ReferenceProblem:
  def widen(leaf):
    leaf = np.asarray(leaf)
    return leaf.astype(np.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

  arrays = ("alpha", "weights", "train_batches", "val_batch")
  widened = {field: jax.tree.map(widen, getattr(reference, field)) for field in arrays}
  return reference._replace(problem=checked(reference.problem), **widened)


def check_exact(**options) -> Check:
  """A check for estimators that claim the hypergradient of the unrolled steps, up to rounding."""

  def check(subject):
    for inner, steps in subject.runs():
      yield _unrolled_row(subject, inner, steps, options)
    yield from _fixed_point_rows(subject, "unrolled", options)

  return check


def check_implicit(*, damping: float = 0.0, **options) -> Check:
  """A check for estimators that claim the implicit hypergradient, with `damping` on the Hessian."""
  return lambda subject: _implicit_rows(subject, options, damping)


def _unrolled_row(subject, inner, steps, options):
  expected, against = subject.unrolled(inner, steps)
  if subject.estimator == against:  # it is the reference for the others
    return _difference_row(subject, inner, steps, options, expected, through=steps)
  return subject.error_row(inner, steps, options, against, expected, _EXACT_BAR)


def _difference_row(subject, inner, steps, options, estimate, *, through):
  directions, slopes = subject.outer_slopes(inner, through)
  error = relative_error(directions @ estimate, slopes)
  return subject.row(inner, steps, options, "central difference", "relative error", error, _DIFFERENCE_BAR)


def _fixed_point_rows(subject, claim, options):
  """Rows for alternating descent, if the problem knows its fixed point."""
  reference = subject.reference
  if claim not in reference.fixed_points:
    return
  optimizer = INNERS["sgd"].optimizer
  estimator = make_estimator(subject.estimator, inner=optimizer, steps=1, **options)
  batches = jax.tree.map(lambda leaf: leaf[:1], reference.train_batches)

  @jax.jit
  def settle(weights, alpha):
    def alternate(_, point):
      weights, alpha = point
      state = optimizer.init(weights)
      slope = estimator(reference.problem, weights, alpha, state, batches, reference.val_batch).gradient
      alpha = alpha - 0.1 * slope
      weights, *_ = inner_step(reference.problem, optimizer, weights, alpha, state, batches[0])
      return weights, alpha

    return lax.fori_loop(0, 600, alternate, (weights, alpha))

  expected = np.array(2 * [reference.fixed_points[claim]])
  error = relative_error(np.array(settle(reference.weights, reference.alpha)), expected)
  yield subject.row("sgd", 1, options, "alternating fixed point", "relative error", error, _SOLVED_BAR)


def _check_truncated(subject):
  """Through all steps it equals `unrolled`; through the last 2 of 5 it is compared with the closed form, if any."""
  closed_form = subject.reference.closed_form
  for inner, steps in subject.runs():
    yield _unrolled_row(subject, inner, steps, {"last": steps})
    if closed_form and steps == 5:
      expected = closed_form.unrolled(inner, steps, 2)
      yield subject.error_row(inner, steps, {"last": 2}, "closed form", expected, _EXACT_BAR)
  yield from _fixed_point_rows(subject, "unrolled", {"last": 1})


def _check_first_order(subject):
  reference = subject.reference
  inner, steps = subject.runs()[0]
  if reference.closed_form:
    yield subject.error_row(inner, steps, {}, "closed form", reference.closed_form.unrolled(inner, 0, 0), _EXACT_BAR)
  else:
    yield _difference_row(subject, inner, steps, {}, subject.estimate(inner, steps, {})[0], through=0)
  yield from _fixed_point_rows(subject, "first_order", {})


def _check_finite_difference(subject):
  """Exact on quadratic problems. On others, its error falls with the square of epsilon, and it equals eq. 8 of
  DARTS."""
  reference = subject.reference
  if reference.closed_form:
    for inner in reference.runs:
      expected, against = subject.unrolled(inner, 1)
      yield subject.error_row(inner, 1, {}, against, expected, _SOLVED_BAR)
    yield from _fixed_point_rows(subject, "unrolled", {})
    return

  sizes = np.array([0.02, 0.01, 0.005])  # distances by which the difference moves the weights
  exact, against = subject.unrolled("sgd", 1)
  errors = [relative_error(estimate, exact) for estimate in subject.estimates("sgd", 1, "epsilon", sizes, {})]
  with np.errstate(divide="ignore", invalid="ignore"):
    slopes = np.diff(np.log(errors)) / np.diff(np.log(sizes))
  distance = np.max(np.abs(slopes - 2))
  yield subject.row("sgd", 1, {"epsilon": sizes.tolist()}, against, "|error slope - 2|", distance, _SLOPE_BAR)
  if not reference.small:
    return
  for differenced, loss in (("inner", "inner_loss"), ("outer_on_train_batch", "outer_loss")):
    equation, length = _darts_equation_8(subject, getattr(reference.problem, loss), sizes[0])
    for rule, epsilon in (("relative", sizes[0]), ("absolute", sizes[0] / length)):
      options = {"epsilon": epsilon.item(), "epsilon_rule": rule, "hvp_loss": differenced}
      yield subject.error_row("sgd", 1, options, "DARTS eq. 8", equation, _EXACT_BAR)


def _darts_equation_8(subject, differenced, size):
  """`∂_α L_out(w′) − ξ [∇_α L(w⁺) − ∇_α L(w⁻)] / 2ε`, `w± = w ± ε ∇_w′ L_out(w′)`, with ε such that `|w± − w|` is
  `size`; and the length of the step, `ξ |∇_w′ L_out(w′)|`."""
  problem, (weights, alpha, train_batches, val_batch) = subject.reference.problem, subject.arguments(1)
  batch = jax.tree.map(lambda leaf: leaf[0], train_batches)
  start, unravel = ravel_pytree(weights)

  @jax.jit
  def estimate(alpha, start):
    ahead = start - RATE * jax.grad(lambda w: problem.inner_loss(unravel(w), alpha, batch))(start)
    outer = lambda w, alpha: problem.outer_loss(unravel(w), alpha, val_batch)
    to_weights, direct = jax.grad(outer, argnums=(0, 1))(ahead, alpha)
    epsilon = size / jnp.linalg.norm(to_weights)
    slope = lambda w: ravel_pytree(jax.grad(differenced, argnums=1)(unravel(w), alpha, batch))[0]
    above, below = slope(start + epsilon * to_weights), slope(start - epsilon * to_weights)
    mixed = (above - below) / (2 * epsilon)
    return ravel_pytree(direct)[0] - RATE * mixed, RATE * jnp.linalg.norm(to_weights)

  gradient, length = estimate(alpha, start)
  return np.asarray(gradient), np.asarray(length)


def _inverse(hessian, damping=0.0):
  return np.linalg.inv(hessian + damping * np.eye(len(hessian)))


def _implicit_rows(subject, options, damping):
  """Rows for the implicit hypergradient. It does not depend on how the weights were reached; the rate may be zero."""
  for inner, steps in (("sgd", 5), ("sgd at rate zero", 1)) if subject.reference.small else ():
    hessian, mixed, to_weights, direct, against = subject.implicit_terms(inner, steps)
    expected = direct - mixed.T @ _inverse(hessian, damping) @ to_weights
    yield subject.error_row(inner, steps, options, against, expected, _SOLVED_BAR)


def _check_cg(subject):
  for damping in (0.0, 0.1):
    yield from _implicit_rows(subject, {"damping": damping}, damping)
  yield from _fixed_point_rows(subject, "implicit", {})


def _check_nystrom(subject):
  """With all columns, the approximation is the Hessian itself."""
  rank = ravel(subject.reference.weights).size
  yield from _implicit_rows(subject, {"rank": rank, "damping": 0.1}, 0.1)


def _check_neumann(subject):
  """It equals the truncated series, and its distance from the inverse is within the series' remainder:

  `|error| <= ||mixed|| ||H⁻¹|| ||I − ηH||^n |∂_w L_out|` with n terms of scale η.
  """
  if not subject.reference.small:
    return
  scale, norm = 0.3, lambda matrix: np.linalg.norm(matrix, 2)
  hessian, mixed, to_weights, direct, against = subject.implicit_terms("sgd", 5)
  limit = direct - mixed.T @ _inverse(hessian) @ to_weights
  factor = np.eye(len(hessian)) - scale * hessian
  for terms in (1, 4, 16):
    options = {"terms": terms, "scale": scale}
    estimate, _ = subject.estimate("sgd", 5, options)
    series = scale * sum(np.linalg.matrix_power(factor, power) for power in range(terms))
    error = relative_error(estimate, direct - mixed.T @ series @ to_weights)
    yield subject.row("sgd", 5, options, f"{against}, series", "relative error", error, _EXACT_BAR)
    bound = norm(mixed) * norm(_inverse(hessian)) * norm(factor) ** terms * norm(to_weights)
    share = norm(estimate - limit) / bound
    yield subject.row("sgd", 5, options, "predicted bound", "error / bound", share, 1.0)
  damped = {"terms": 2000, "scale": scale, "damping": 0.1}  # practically the limit of the series
  yield from _implicit_rows(subject, damped, damped["damping"])


def _check_evolution(subject):
  """Only with plain SGD: if an optimiser has corners, the hypergradient of the smoothed loss differs."""
  if "sgd" not in subject.reference.runs:
    return
  options = {"samples": 200, "sigma": 1e-3}
  expected, against = subject.unrolled("sgd", 1)
  estimate, diagnostics = subject.estimate("sgd", 1, options)
  errors = np.linalg.norm(estimate - expected) / float(diagnostics["standard_error"])
  yield subject.row("sgd", 1, options, against, "error / standard error", errors, _STANDARD_ERRORS_BAR)


CHECKS: dict[str, Check] = {
  "unrolled": check_exact(),
  "mixed_mode": check_exact(),
  "forward": check_exact(),
  "truncated": _check_truncated,
  "first_order": _check_first_order,
  "finite_difference": _check_finite_difference,
  "cg": _check_cg,
  "neumann": _check_neumann,
  "nystrom": _check_nystrom,
  "evolution": _check_evolution,
}
"""The check of every estimator, by its name in `ESTIMATORS`."""
