"""Hypergradient estimators against closed forms and central differences, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ruas_jax.bilevel import BilevelProblem, inner_step, inner_steps, make_estimator
from ruas_jax.optimizers import OptimizerOptions, make_optimizer

pytestmark = pytest.mark.usefixtures("x64_module")

RATE, DECAY = 0.1, 0.9  # of the inner SGD and its momentum
RNG = np.random.default_rng(0)
M = RNG.normal(size=(4, 4))
A, B, D = M @ M.T / 4 + np.eye(4), RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))
ALPHA, WEIGHTS, MOMENTUM = RNG.normal(size=3), RNG.normal(size=4), RNG.normal(size=4)
BATCHES, VALIDATION = RNG.normal(size=(3, 4)), RNG.normal(size=4)


def inner_loss(weights, alpha, batch):
  """`1/2 w'Aw - w'(B a + batch)` on weights and alpha that are pytrees."""
  w, a = jnp.concatenate([weights["first"], weights["rest"]]), alpha["all"]
  return 0.5 * w @ A @ w - w @ (B @ a + batch)


def outer_loss(weights, alpha, batch):
  """`1/2 |w - batch|^2 + w'D a + |a|^2`."""
  w, a = jnp.concatenate([weights["first"], weights["rest"]]), alpha["all"]
  return 0.5 * jnp.sum((w - batch) ** 2) + w @ D @ a + a @ a


PROBLEM = BilevelProblem(inner_loss, outer_loss)


def as_weights(w):
  return {"first": jnp.asarray(w[:1]), "rest": jnp.asarray(w[1:])}


def closed_form(name, alpha, steps, momentum):
  """The estimate, the loss where it is taken, and the weights reached, from the steps' own linear algebra."""
  w, trace = WEIGHTS, MOMENTUM if momentum else np.zeros(4)
  dw, dtrace = np.zeros((4, 3)), np.zeros((4, 3))  # the incoming state does not depend on alpha
  for batch in BATCHES[:steps]:
    trace, dtrace = A @ w - B @ alpha - batch + momentum * trace, A @ dw - B + momentum * dtrace
    w, dw = w - RATE * trace, dw - RATE * dtrace
  reached = w
  if name == "first_order":
    w, dw = WEIGHTS, np.zeros((4, 3))
  gradient = dw.T @ (w - VALIDATION + D @ alpha) + D.T @ w + 2 * alpha
  loss = 0.5 * np.sum((w - VALIDATION) ** 2) + w @ D @ alpha + alpha @ alpha
  return gradient, loss, reached, trace


def estimate_with(name, steps, momentum):
  optimizer = optax.sgd(RATE, momentum=momentum or None)
  state = optimizer.init(as_weights(WEIGHTS))
  if momentum:
    state = optax.tree_utils.tree_set(state, trace=as_weights(MOMENTUM))
  estimator = make_estimator(name, inner=optimizer, steps=steps)

  def estimate(alpha):
    return estimator(PROBLEM, {"all": alpha}, as_weights(WEIGHTS), state, BATCHES[:steps], VALIDATION)

  return estimate


def assert_relative(actual, expected, tolerance=1e-12):
  actual = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(actual)])
  assert np.linalg.norm(actual - expected) <= tolerance * np.linalg.norm(expected)


CASES = [
  (name, steps, momentum) for name in ("unrolled", "first_order") for steps in (1, 3) for momentum in (0.0, DECAY)
]


@pytest.mark.parametrize(("name", "steps", "momentum"), CASES)
def test_quadratic_closed_form(name, steps, momentum):
  out = jax.jit(estimate_with(name, steps, momentum))(ALPHA)
  gradient, loss, reached, trace = closed_form(name, ALPHA, steps, momentum)
  assert_relative(out.gradient, gradient)
  assert_relative(out.outer_loss, loss)
  assert_relative(out.weights, reached)
  if momentum:
    assert_relative(out.inner_state, trace)
  assert_relative(out.diagnostics["inner_loss"], 0.5 * WEIGHTS @ A @ WEIGHTS - WEIGHTS @ (B @ ALPHA + BATCHES[0]))
  assert jax.tree.structure(out.gradient) == jax.tree.structure({"all": ALPHA})


def test_estimates_of_a_population():
  population = np.stack([ALPHA, 2 * ALPHA, -ALPHA])
  out = jax.jit(jax.vmap(estimate_with("unrolled", 3, DECAY)))(population)
  for alpha, gradient in zip(population, out.gradient["all"], strict=True):
    assert_relative(gradient, closed_form("unrolled", alpha, 3, DECAY)[0])


def test_incoming_momentum_is_a_constant():
  """Even where the caller's own graph makes it a function of alpha."""
  optimizer = optax.sgd(RATE, momentum=DECAY)
  estimator = make_estimator("unrolled", inner=optimizer)

  def loss_through(alpha):
    state = optax.tree_utils.tree_set(
      optimizer.init(as_weights(WEIGHTS)), trace=as_weights(jnp.tile(jnp.sum(alpha), 4))
    )
    out = estimator(PROBLEM, {"all": alpha}, as_weights(WEIGHTS), state, BATCHES[:1], VALIDATION)
    return out.outer_loss, out.gradient["all"]

  through, estimate = jax.jit(jax.grad(loss_through, has_aux=True))(ALPHA)
  assert_relative(through, np.asarray(estimate))


def darts_toy(name, rate):
  """The gradient of `L_val = a w - 2a + 1` after one step of `L_tr = (w - a)^2`."""
  problem = BilevelProblem(lambda w, a, _: (w - a) ** 2, lambda w, a, _: a * w - 2 * a + 1)
  estimator = make_estimator(name, inner=optax.sgd(rate))
  return lambda a, w: estimator(problem, a, w, optax.sgd(rate).init(w), jnp.zeros(1), jnp.zeros(())).gradient


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_darts_toy(rate):
  a, w = 1.7, -0.4
  assert darts_toy("unrolled", rate)(a, w) == pytest.approx(w - 2 * rate * (w - a) - 2 + 2 * rate * a, rel=1e-12)
  assert darts_toy("first_order", rate)(a, w) == pytest.approx(w - 2, rel=1e-12)


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_darts_toy_settles_where_its_hypergradient_says(rate):
  """Alternating descent: one unrolled step knows of `2 / (1 + 2 rate)`; the first-order one goes to two."""
  for name, fixed_point in (("unrolled", 2 / (1 + 2 * rate)), ("first_order", 2.0)):
    gradient = darts_toy(name, rate)

    def alternate(_, state, gradient=gradient):
      a, w = state
      a = a - 0.1 * gradient(a, w)
      return a, w - rate * 2 * (w - a)

    a, w = jax.jit(lambda start, step=alternate: jax.lax.fori_loop(0, 2000, step, start))((2.0, -2.0))
    assert a == pytest.approx(fixed_point, rel=1e-10) and w == pytest.approx(fixed_point, rel=1e-10)


INNER_OPTIMIZERS = {
  "adam": OptimizerOptions("adam", learning_rate=0.05, momentum=0.5, weight_decay=1e-2),
  "sgd_with_decay": OptimizerOptions("sgd", learning_rate=0.1, momentum=0.9, weight_decay=1e-2),
  "clipped": OptimizerOptions("sgd", learning_rate=0.1, momentum=0.9, clip=0.1),
}


def smooth_inner(weights, alpha, batch):
  return jnp.sum(jnp.tanh(weights * alpha[0] + batch[:2]) ** 2) + 0.1 * jnp.sum(jnp.sin(weights + alpha[1:]))


SMOOTH = BilevelProblem(
  smooth_inner, lambda weights, alpha, batch: jnp.sum(jnp.cos(weights * alpha[0]) + weights * batch[:2])
)


@pytest.mark.parametrize("name", INNER_OPTIMIZERS)
def test_any_inner_optimizer_against_central_differences(name):
  """What is differentiated is the optimiser itself, whichever it is."""
  optimizer = make_optimizer(INNER_OPTIMIZERS[name])
  weights, alpha, batches = WEIGHTS[:2], ALPHA, BATCHES
  _, state, _ = inner_step(SMOOTH, optimizer, alpha, weights, optimizer.init(weights), VALIDATION)  # a state under way

  @jax.jit
  def reached_loss(alpha):
    reached = inner_steps(SMOOTH, optimizer, alpha, weights, state, batches)[0]
    return SMOOTH.outer_loss(reached, alpha, VALIDATION)

  estimator = make_estimator("unrolled", inner=optimizer, steps=3)
  gradient = jax.jit(lambda alpha: estimator(SMOOTH, alpha, weights, state, batches, VALIDATION).gradient)(alpha)
  for axis in np.eye(3) * 1e-5:
    difference = (reached_loss(alpha + axis) - reached_loss(alpha - axis)) / 2e-5
    assert gradient @ axis / 1e-5 == pytest.approx(float(difference), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("name", INNER_OPTIMIZERS)
def test_hypergradient_is_finite_where_the_inner_gradient_is_zero(name):
  """A plain Adam's root and a plain clip's norm have no derivative there."""
  optimizer = make_optimizer(INNER_OPTIMIZERS[name])
  problem = BilevelProblem(lambda w, a, _: jnp.sum(w**2 * a), lambda w, a, _: jnp.sum(w * a))
  weights = jnp.zeros(2)
  estimator = make_estimator("unrolled", inner=optimizer)
  out = jax.jit(lambda a: estimator(problem, a, weights, optimizer.init(weights), jnp.zeros(1), jnp.zeros(())))(
    jnp.ones(2)
  )
  assert np.all(np.isfinite(out.gradient)) and np.all(np.isfinite(out.weights))


def test_adam_and_decay_are_the_textbooks():
  """Two steps of Adam with L2 decay in the gradient, as PyTorch's `Adam(weight_decay=...)`."""
  options = OptimizerOptions("adam", learning_rate=3e-4, momentum=0.5, second_moment=0.999, weight_decay=1e-3)
  optimizer = make_optimizer(options)
  w, state = jnp.asarray(WEIGHTS), optimizer.init(jnp.asarray(WEIGHTS))
  expected, first, second = WEIGHTS, 0.0, 0.0
  for step, gradient in enumerate(BATCHES[:2], start=1):
    updates, state = optimizer.update(jnp.asarray(gradient), state, w)
    w = optax.apply_updates(w, updates)
    whole = gradient + 1e-3 * expected
    first, second = 0.5 * first + 0.5 * whole, 0.999 * second + 0.001 * whole**2
    expected = expected - 3e-4 * (first / (1 - 0.5**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
  np.testing.assert_allclose(w, expected, rtol=1e-12)


def test_wrong_uses_are_refused():
  with pytest.raises(ValueError, match=r"'exact' is not one of .*first_order.*unrolled"):
    make_estimator("exact", inner=optax.sgd(0.1))
  with pytest.raises(ValueError, match="at least 1"):
    make_estimator("unrolled", inner=optax.sgd(0.1), steps=0)
  with pytest.raises(TypeError, match="epsilon"):
    make_estimator("unrolled", inner=optax.sgd(0.1), epsilon=1e-2)
  estimator = make_estimator("unrolled", inner=optax.sgd(RATE), steps=2)
  with pytest.raises(ValueError, match="length 2"):
    estimator(
      PROBLEM, {"all": ALPHA}, as_weights(WEIGHTS), optax.sgd(RATE).init(as_weights(WEIGHTS)), BATCHES, VALIDATION
    )
