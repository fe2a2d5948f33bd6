"""Known bugs of hypergradient code, put in on purpose: each makes the conformance check fail.

They were found in DARTS' ports, NNI, Betty, hypergrad and hypertorch, or are the slips next to them.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance_table import about
from jax import lax

from ruas_jax.bilevel import ESTIMATORS, BilevelProblem, implicit, inner, mixed_mode, optimizer
from ruas_jax.bilevel.conjugate_gradient import Solved
from ruas_jax.bilevel.testing.conformance import conformance
from ruas_jax.bilevel.testing.testbed import (
  RATE,
  ClosedForm,
  ReferenceProblem,
  darts_toy,
  logistic_regression,
  quadratic,
  quadratic_at_rest,
)
from ruas_jax.lowlight import losses

SOUND = dict(ESTIMATORS)  # before anything is broken


class Mutation(NamedTuple):
  """`where`, in the package `ruas_jax.bilevel`, is replaced by `wrong`; a bare name is an estimator's. `estimator` is
  then to fail on `problem` behind `inner`, a run of so many steps."""

  where: str
  wrong: Callable
  estimator: str
  problem: Callable[[], ReferenceProblem] = quadratic
  run: tuple[str, int] = ("sgd", 1)

  def rows(self):
    return rows_of(self.problem, self.run, self.estimator)

  def apply(self, monkeypatch):
    if self.where in ESTIMATORS:
      monkeypatch.setitem(ESTIMATORS, self.where, self.wrong)
    else:
      monkeypatch.setattr(f"ruas_jax.bilevel.{self.where}", self.wrong)


def rows_of(problem, run, estimator):
  optimizer, steps = run
  return conformance([problem()._replace(runs={optimizer: (steps,)})], [estimator])


sound_rows = functools.cache(rows_of)  # before anything is broken

# Solvers.


def conjugate_gradient(operator, right, *, tolerance, iterations, preconditioner, share=1.0, dropped=0):
  """As textbooks have it, for as many steps as there are unknowns: of each step `share` is taken, and the last
  `dropped` are not."""
  del tolerance, iterations, preconditioner
  x, residual, direction = jnp.zeros_like(right), right, right
  for count in range(right.size):
    step = jnp.vdot(residual, residual) / jnp.vdot(direction, operator(direction))
    if count < right.size - dropped:
      x = x + share * step * direction
    smaller = residual - step * operator(direction)
    direction = smaller + jnp.vdot(smaller, smaller) / jnp.vdot(residual, residual) * direction
    residual = smaller
  return Solved(x, jnp.zeros((), jnp.int32), jnp.ones(()), jnp.zeros(()))


def negative_solution(*arguments, conjugate_gradient=implicit.conjugate_gradient, **options):
  solved = conjugate_gradient(*arguments, **options)
  return solved._replace(x=-solved.x)


def series_without_rate(hessian, right, terms, scale, series=implicit._neumann_series):
  return series(hessian, right, terms, scale) / scale


def series_one_term_longer(hessian, right, terms, scale, series=implicit._neumann_series):
  return series(hessian, right, terms + 1, scale)


# Inner steps.


def unrolled_by_hand(problem, optimizer, weights, alpha, state, batches, *, alpha_at=None, state_at=None):
  """`inner_steps`, with alpha cut off in one of the steps, or the optimiser's state before it."""
  losses = []
  for count in range(len(batches)):
    own = lax.stop_gradient(alpha) if count == alpha_at else alpha
    state = lax.stop_gradient(state) if count == state_at else state
    weights, state, loss = inner.inner_step(problem, optimizer, weights, own, state, batches[count])
    losses.append(loss)
  return weights, state, jnp.stack(losses)


def plain_update(optimizer, gradient, state, weights, *_):
  """Without the derivative beside zero."""
  updates, state = optimizer.update(gradient, state, weights)
  return optax.apply_updates(weights, updates), state


def decayed_update(optimizer, gradient, state, weights, *_):
  """The virtual step is not the step that is taken."""
  decayed = jax.tree.map(lambda slope, weight: slope + 3e-4 * weight, gradient, weights)
  return plain_update(optimizer, decayed, state, weights)


def memoryless_update(optimizer, gradient, state, weights, *_):
  weights, state = plain_update(optimizer, gradient, state, weights)
  return weights, lax.stop_gradient(state)


def update_at_constant_value(optimizer, gradient, state, weights, value, *rest, update=optimizer.apply_optimizer):
  return update(optimizer, gradient, state, weights, lax.stop_gradient(value), *rest)


def step_without_curvature(*arguments, step=mixed_mode.step_with_pullback):
  *results, pull_back = step(*arguments)
  return *results, lambda to_weights, to_state: (to_weights, *pull_back(to_weights, to_state)[1:])


def no_steps(problem, optimizer, weights, alpha, state, batches):
  return weights, state, jnp.zeros(len(jax.tree.leaves(batches)[0]))


# The finite difference.


def pullback_times(factor):
  def optimizer_with_pullback(*arguments, real=mixed_mode.optimizer_with_pullback):
    reached, pull = real(*arguments)
    scaled = lambda to_weights, to_state: (optax.tree.scale(factor, pull(to_weights, to_state)[0]), None, None, ())
    return reached, scaled

  return optimizer_with_pullback


def without_precedence(sides, width):
  return (sides[0] - sides[1]) / 2.0 * width


# Whole estimators.


def truncated_at(shift):
  def truncated(*, inner, steps, last):
    return SOUND["truncated"](inner=inner, steps=steps, last=min(max(last + shift, 1), steps))

  return truncated


def with_option(name, option, change):
  """The estimator, with what `change` makes of one option."""

  @functools.wraps(SOUND[name])
  def estimator(**options):
    return SOUND[name](**{**options, option: change(options.get(option))})

  return estimator


def other_loss(hvp_loss):
  return "inner" if hvp_loss == "outer_on_train_batch" else "outer_on_train_batch"


def evolution_over_sigma(*, inner, steps, samples, sigma):
  estimator = SOUND["evolution"](inner=inner, steps=steps, samples=samples, sigma=sigma)

  def estimate(*arguments, key):
    out = estimator(*arguments, key=key)
    return out._replace(gradient=optax.tree.scale(2.0, out.gradient))

  return estimate


def first_order_ahead(*, inner, steps):
  estimator = SOUND["first_order"](inner=inner, steps=steps)

  def estimate(problem, weights, alpha, state, train_batches, val_batch, *, key):
    weights, *_ = unrolled_by_hand(problem, inner, weights, alpha, state, train_batches)
    return estimator(problem, weights, alpha, state, train_batches, val_batch, key=key)

  return estimate


RATELESS = pullback_times(1 / RATE)
MUTATIONS = {
  "CG scales the step but not the residual": Mutation(
    "implicit.conjugate_gradient", functools.partial(conjugate_gradient, share=0.5), "cg"
  ),
  "CG drops its last update": Mutation(
    "implicit.conjugate_gradient", functools.partial(conjugate_gradient, dropped=1), "cg"
  ),
  "the implicit term's sign": Mutation("implicit.conjugate_gradient", negative_solution, "cg"),
  "second derivatives on the first batch": Mutation(
    "implicit.one_of", lambda batches, index: inner.one_of(batches, 0), "cg", logistic_regression
  ),
  "second derivatives at the incoming weights": Mutation("implicit.inner_steps", no_steps, "cg", logistic_regression),
  "Neumann's series without the rate": Mutation("implicit._neumann_series", series_without_rate, "neumann"),
  "Neumann's series by one term too long": Mutation("implicit._neumann_series", series_one_term_longer, "neumann"),
  "Nyström damps twice": Mutation("nystrom", with_option("nystrom", "damping", lambda value: 2 * value), "nystrom"),
  "Nyström of all columns but one": Mutation(
    "nystrom", with_option("nystrom", "rank", lambda rank: rank - 1), "nystrom"
  ),
  "/2.*eps": Mutation("finite_difference._central_difference", without_precedence, "finite_difference"),
  "/2.*eps, seen by the error's slope": Mutation(
    "finite_difference._central_difference", without_precedence, "finite_difference", logistic_regression
  ),
  "finite difference without the inner rate": Mutation(
    "finite_difference.optimizer_with_pullback", RATELESS, "finite_difference"
  ),
  "a rate missing moves DARTS' fixed point": Mutation(
    "finite_difference.optimizer_with_pullback", RATELESS, "finite_difference", darts_toy
  ),
  "finite difference of the wrong sign": Mutation(
    "finite_difference.optimizer_with_pullback", pullback_times(-1.0), "finite_difference"
  ),
  "epsilon never relative": Mutation(
    "finite_difference._width",
    lambda epsilon, rule, norm: jnp.full_like(norm, epsilon),
    "finite_difference",
    logistic_regression,
  ),
  "epsilon always relative": Mutation(
    "finite_difference._width", lambda epsilon, rule, norm: epsilon / norm, "finite_difference", logistic_regression
  ),
  "the other loss is differenced": Mutation(
    "finite_difference", with_option("finite_difference", "hvp_loss", other_loss), "finite_difference"
  ),
  "first momentum step detached": Mutation(
    "unrolled.inner_steps", functools.partial(unrolled_by_hand, state_at=1), "unrolled", run=("momentum", 5)
  ),
  "second step detached": Mutation(
    "unrolled.inner_steps", functools.partial(unrolled_by_hand, alpha_at=1), "unrolled", run=("sgd", 5)
  ),
  "truncated one step early": Mutation("truncated", truncated_at(-1), "truncated", run=("sgd", 5)),
  "truncated one step late": Mutation("truncated", truncated_at(1), "truncated", run=("sgd", 5)),
  "the virtual step decays weights": Mutation("inner.apply_optimizer", decayed_update, "unrolled"),
  "no curvature on the way back": Mutation(
    "mixed_mode.step_with_pullback", step_without_curvature, "mixed_mode", run=("sgd", 5)
  ),
  "the loss's value forgotten on the way back": Mutation(
    "mixed_mode._reads_extras", lambda *_: False, "mixed_mode", logistic_regression, ("polyak", 5)
  ),
  "the loss's value a constant going forward": Mutation(
    "forward.apply_optimizer", update_at_constant_value, "forward", logistic_regression, ("polyak", 5)
  ),
  "momentum forgotten going forward": Mutation(
    "forward.apply_optimizer", memoryless_update, "forward", run=("momentum", 5)
  ),
  "first order at the weights ahead": Mutation("first_order", first_order_ahead, "first_order"),
  "evolution divides by sigma, not by two of it": Mutation("evolution", evolution_over_sigma, "evolution"),
  **{
    f"{optimizer} at a zero gradient, {estimator}": Mutation(
      f"{place}.apply_optimizer", plain_update, estimator, quadratic_at_rest, (optimizer, 1)
    )
    for optimizer, estimator, place in (
      ("adam", "unrolled", "inner"),
      ("adam", "mixed_mode", "mixed_mode"),
      ("adam", "forward", "forward"),
      ("clipped sgd", "unrolled", "inner"),
      ("clipped sgd", "mixed_mode", "mixed_mode"),  # forward mode happens to go around the norm
    )
  },
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_bug_is_seen(name, monkeypatch):
  mutation = MUTATIONS[name]
  sound = sound_rows(mutation.problem, mutation.run, mutation.estimator)
  mutation.apply(monkeypatch)
  rows = mutation.rows()
  assert [about(row) for row in rows] == [about(row) for row in sound] and all(row.met for row in sound)
  assert not all(row.met for row in rows)


def test_the_scaffold_of_a_bug_is_sound(monkeypatch):
  """What the mutations are written around passes without them."""
  for mutation in (
    Mutation("implicit.conjugate_gradient", conjugate_gradient, "cg"),
    Mutation("unrolled.inner_steps", unrolled_by_hand, "unrolled", run=("momentum", 5)),
    Mutation("inner.apply_optimizer", plain_update, "unrolled"),
    Mutation("finite_difference.optimizer_with_pullback", pullback_times(1.0), "finite_difference"),
    Mutation("truncated", truncated_at(0), "truncated", run=("sgd", 5)),
  ):
    with monkeypatch.context() as patch:
      mutation.apply(patch)
      assert all(row.met for row in mutation.rows()), mutation


def flat_image():
  """The outer loss is a total variation, and the weights it sees are a flat image: there `|.|` has its kink."""
  pattern = np.array([[0.3, -0.7], [0.2, 0.5]])
  return ReferenceProblem(
    "flat image",
    BilevelProblem(
      lambda w, a, batch: 0.5 * jnp.sum((w - a) ** 2),
      lambda w, a, batch: losses.total_variation(w[..., None]) + jnp.sum(pattern * w),
    ),
    np.zeros((2, 2)),
    np.zeros((2, 2)),
    np.zeros(1),
    np.zeros(()),
    {"sgd": (1,)},
    ClosedForm(
      lambda inner, steps, last: (np.zeros(4), RATE * np.eye(4)),
      lambda w: (pattern.ravel(), np.zeros(4)),
      np.eye(4),
      -np.eye(4),
    ),
  )


def test_a_slope_of_one_at_the_kink_is_seen(monkeypatch):
  """`jnp.abs` has it; the loss there falls and rises alike."""
  (sound,) = conformance([flat_image()], ["unrolled"])
  monkeypatch.setattr("ruas_jax.lowlight.losses.absolute", lambda x, smoothing=0.0: jnp.abs(x))
  (row,) = conformance([flat_image()], ["unrolled"])
  assert sound.met and not row.met
