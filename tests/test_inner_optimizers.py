"""Inner optimisers that ask for the loss beside its gradient, and a handful of other kinds, against central differences
of the outer loss after the inner steps, on a smooth problem."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ruas_jax.bilevel import ESTIMATORS, decompose, init_optimizer, inner_step, make_estimator
from ruas_jax.bilevel.testing.conformance import conformance
from ruas_jax.bilevel.testing.subject import Known, Subject, relative_error
from ruas_jax.bilevel.testing.testbed import INNERS, Inner, logistic_regression
from ruas_jax.data.crops import random_crops
from ruas_jax.lowlight.objectives import Objectives
from ruas_jax.lowlight.training import TrainState, make_train_step

pytestmark = pytest.mark.usefixtures("x64_module")

PROBLEM = logistic_regression()
STEPS = 3


def damped_by_the_loss_ahead():
  """Steps that shrink with the loss at the end of a plain step: smooth in `value` and in `value_fn`."""

  def update(gradient, state, params, *, value, value_fn, **_):
    ahead = value_fn(jax.tree.map(lambda weight, slope: weight - 0.1 * slope, params, gradient))
    return optax.tree.scale(-0.2 * value / (1 + ahead**2), gradient), state

  return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def scaled_by_its_gradient():
  """`grad` is the loss's gradient, before what the chain has made of it."""

  def update(gradient, state, params, *, grad, **_):
    del params
    return optax.tree.scale(-0.1 / (1 + optax.tree.norm(grad, squared=True)), gradient), state

  return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


ASKING = {
  "polyak behind a momentum": optax.chain(optax.trace(0.9), optax.polyak_sgd(max_learning_rate=10.0, scaling=0.1)),
  "plateau": optax.chain(
    optax.sgd(0.3, momentum=0.9), optax.contrib.reduce_on_plateau(factor=0.5, patience=1, rtol=0.9, accumulation_size=2)
  ),
  "value_fn": damped_by_the_loss_ahead(),
  "grad": optax.chain(optax.trace(0.9), scaled_by_its_gradient()),
}
ACCUMULATING = optax.MultiSteps(optax.polyak_sgd(max_learning_rate=10.0), 2)  # does so in float32
OTHERS = {
  "schedule": optax.sgd(optax.exponential_decay(0.1, 1, 0.9)),
  "adamw": optax.adamw(0.1, weight_decay=0.1),
  "masked": optax.masked(optax.sgd(0.1), {"slope": True, "offset": False}),
  "injected": optax.inject_hyperparams(optax.sgd)(learning_rate=0.1),
  "schedule-free": optax.contrib.schedule_free_sgd(0.1),
}
ZOOMING = optax.scale_by_zoom_linesearch(4)
SEARCHING = {
  "backtracking": optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5, decrease_factor=0.5)),
  "zoom": optax.lbfgs(scale_init_precond=False, linesearch=ZOOMING),
}
EXACT = ("unrolled", "mixed_mode", "forward", "truncated")
OPTIONS = {
  "truncated": {"last": 1},
  "neumann": {"terms": 3, "scale": 0.3},
  "nystrom": {"rank": 2, "damping": 0.1},
  "evolution": {"samples": 3, "sigma": 1e-2},
}


def rows_of(name, optimizer, monkeypatch, estimators, steps=STEPS):
  monkeypatch.setitem(INNERS, name, Inner(optimizer))
  return conformance([PROBLEM._replace(runs={name: (steps,)})], estimators)


@pytest.mark.parametrize("name", ASKING)
def test_exact_estimators_differentiate_through_the_loss_that_is_asked_for(name, monkeypatch):
  """`unrolled` against the central difference, the others against `unrolled`."""
  rows = rows_of(name, ASKING[name], monkeypatch, EXACT)
  assert [row.estimator for row in rows] == list(EXACT)
  assert rows[0].against == "central difference" and all(row.met for row in rows), rows


def test_accumulated_gradients_ask_for_the_loss_too(monkeypatch):
  rows = rows_of("accumulating", ACCUMULATING, monkeypatch, EXACT)
  assert all(row.value < 1e-4 for row in rows), rows


@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds_of_optimisers(name, monkeypatch):
  (row,) = rows_of(name, OTHERS[name], monkeypatch, ["unrolled"])
  assert row.against == "central difference" and row.met, row


@pytest.mark.parametrize("name", ["polyak behind a momentum", "value_fn"])
def test_finite_difference_adds_what_the_loss_changes(name):
  """Its error falls with the square of epsilon, as with any other optimiser."""

  def gradient(estimator, **options):
    estimator = make_estimator(estimator, inner=ASKING[name], **options)
    return jax.jit(lambda *start: ravel_gradient(run(estimator, ASKING[name], *start)))(PROBLEM.weights, PROBLEM.alpha)

  exact = gradient("mixed_mode")
  wide, narrow = (relative_error(gradient("finite_difference", epsilon=epsilon), exact) for epsilon in (1e-2, 1e-3))
  assert narrow < 1e-5 and 80 < wide / narrow < 125


def run(estimator, optimizer, weights, alpha, steps=1):
  batches = jax.tree.map(lambda leaf: leaf[:steps], PROBLEM.train_batches)
  state, key = optimizer.init(weights), jax.random.key(0)
  return estimator(PROBLEM.problem, weights, alpha, state, batches, PROBLEM.val_batch, key=key)


def ravel_gradient(out):
  return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(out.gradient)])


# Line searches.


@pytest.mark.parametrize("name", SEARCHING)
def test_forward_is_exact_through_a_line_search(name, monkeypatch):
  optimizer = SEARCHING[name]
  monkeypatch.setitem(INNERS, name, Inner(optimizer))
  subject = Subject("forward", PROBLEM, Known())
  directions, slopes = subject.outer_slopes(name, STEPS)
  estimate, _ = subject.estimate(name, STEPS, {})
  assert relative_error(directions @ estimate, slopes) < 1e-7
  if name == "backtracking":  # its rates are powers of one number, and so the loop has no derivative to reverse
    np.testing.assert_allclose(Subject("unrolled", PROBLEM, Known()).estimate(name, STEPS, {})[0], estimate, rtol=1e-12)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_line_search_is_refused_where_its_derivative_needs_reverse_mode(name):
  optimizer = optax.chain(optax.sgd(1.0), ZOOMING)  # traced sooner than L-BFGS
  estimator = make_estimator(name, inner=optimizer, **OPTIONS.get(name, {}))
  estimate = functools.partial(jax.eval_shape, functools.partial(run, estimator, optimizer))
  if name in ("unrolled", "mixed_mode", "truncated", "finite_difference"):
    with pytest.raises(ValueError, match=rf"^{name} differentiates a while loop in reverse mode.*line search.*forward"):
      estimate(PROBLEM.weights, PROBLEM.alpha)
  else:
    estimate(PROBLEM.weights, PROBLEM.alpha)


def test_decompose_refuses_it_too():
  optimizer = optax.chain(optax.sgd(1.0), ZOOMING)
  state = optimizer.init(PROBLEM.weights)
  with pytest.raises(ValueError, match=r"^decompose differentiates a while loop in reverse mode"):
    jax.eval_shape(
      functools.partial(decompose, PROBLEM.problem, optimizer),
      *(PROBLEM.weights, PROBLEM.alpha, state, PROBLEM.train_batches, PROBLEM.val_batch),
    )


# The steps that are taken.


STEPPED = {**ASKING, **SEARCHING, "accumulating": ACCUMULATING}


@pytest.mark.parametrize("name", STEPPED)
def test_the_inner_step_is_optaxs(name):
  """To rounding, over some steps; infinite numbers in the state stay infinite."""
  optimizer, weights, alpha = STEPPED[name], PROBLEM.weights, PROBLEM.alpha
  batches = [jax.tree.map(lambda leaf, index=index: leaf[index], PROBLEM.train_batches) for index in range(STEPS)]

  @jax.jit
  def step(weights, state, batch):
    return inner_step(PROBLEM.problem, optimizer, weights, alpha, state, batch)

  @jax.jit
  def expected_step(weights, state, batch):
    value_fn = lambda weights: PROBLEM.problem.inner_loss(weights, alpha, batch)
    value, grad = jax.value_and_grad(value_fn)(weights)
    updates, state = optimizer.update(grad, state, weights, value=value, grad=grad, value_fn=value_fn)
    return optax.apply_updates(weights, updates), state, value

  (reached, state), (expected, expected_state) = ((weights, optimizer.init(weights)) for _ in range(2))
  for batch in batches:
    reached, state, loss = step(reached, state, batch)
    expected, expected_state, value = expected_step(expected, expected_state, batch)
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-12),
      (reached, state, loss),
      (expected, expected_state, value),
    )


def test_the_training_hands_each_module_its_loss():
  """One Polyak step to a minimum of zero on `L_t = w^2 / 2` and on `L_n = v^2 mean(u) / 2`; a counter stays."""
  objectives = Objectives(
    illumination=lambda weights, alpha, images: (weights["w"] ** 2 / 2, 0 * images + 2.0),
    denoising=lambda weights, alpha, u: weights["v"] ** 2 * u.mean() / 2,
  )
  count = jnp.array(2**30 + 1)
  weights = {"illumination": {"count": count, "w": jnp.array(3.0)}, "denoising": {"count": count, "v": jnp.array(5.0)}}
  searching = optax.chain(optax.sgd(2.0), optax.scale_by_backtracking_linesearch(5, decrease_factor=0.5))
  for optimizer, w, v in ((optax.polyak_sgd(max_learning_rate=10.0), 1.5, 2.5), (searching, 0.0, 0.0)):
    optimizers = {"illumination": optimizer, "denoising": optimizer}
    states = {name: init_optimizer(optimizer, own) for name, own in weights.items()}
    batch = {"image": jnp.full((1, 4, 4, 3), 51, jnp.uint8), "size": jnp.full((1, 2), 4, jnp.int32)}
    step = jax.jit(make_train_step(objectives, optimizers, functools.partial(random_crops, crop=4)))
    state, _ = step(TrainState(jnp.int32(0), weights, states), batch, jax.random.key(0))
    moved = state.weights
    np.testing.assert_allclose((moved["illumination"]["w"], moved["denoising"]["v"]), (w, v), atol=1e-5)
    assert moved["illumination"]["count"] == moved["denoising"]["count"] == count
