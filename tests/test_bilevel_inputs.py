"""Which losses, weights and alpha the estimators accept, and what they say of the others."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ruas_jax.bilevel import (
  ESTIMATORS,
  BilevelProblem,
  decompose,
  init_optimizer,
  inner_step,
  inner_steps,
  make_estimator,
  outer_curvature,
  summarize,
  update_parameters,
)
from ruas_jax.bilevel.testing.conformance import conformance
from ruas_jax.bilevel.testing.testbed import quadratic

pytestmark = pytest.mark.usefixtures("x64_module")

OPTIONS = {
  "truncated": {"last": 1},
  "neumann": {"terms": 3, "scale": 0.3},
  "nystrom": {"rank": 2, "damping": 0.1},
  "evolution": {"samples": 3, "sigma": 1e-2},
}


def estimate(name, problem, weights, alpha, optimizer, state=None):
  estimator = make_estimator(name, inner=optimizer, **OPTIONS.get(name, {}))
  state = optimizer.init(weights) if state is None else state
  return estimator(problem, weights, alpha, state, jnp.zeros(1), jnp.zeros(()), key=jax.random.key(0))


# Losses that are not scalars.


def right_loss(weights, alpha, batch):
  return jnp.sum((weights - alpha) ** 2) + batch


WRONG = {
  "vector": (lambda value: jnp.stack([value, value]), r"float64\[2\]"),
  "one of an axis": (lambda value: value[None], r"float64\[1\]"),
  "with auxiliary values": (lambda value: (value, {"more": jnp.zeros(3)}), r"tuple \(float64\[\], float64\[3\]\)"),
  "integer": (lambda value: jnp.zeros((), jnp.int32), r"int32\[\]"),
  "complex": (lambda value: value + 0j, r"complex128\[\]"),
  "one in a tuple": (lambda value: (value,), r"tuple \(float64\[\]\)"),
  "no array": (lambda value: "text", "str"),
  "nothing": (lambda value: None, "NoneType"),
}
SIDES = {
  "inner_loss": lambda wrong: BilevelProblem(wrong, right_loss),
  "outer_loss": lambda wrong: BilevelProblem(right_loss, wrong),
}


def wrong_problem(side, kind):
  change, words = WRONG[kind]
  return SIDES[side](lambda *arguments: change(right_loss(*arguments))), f"{side} must return one real number.*{words}"


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_loss_that_is_no_scalar_is_refused_by_name(name, side):
  for kind in WRONG:
    problem, words = wrong_problem(side, kind)
    with pytest.raises(TypeError, match=words):
      jax.eval_shape(functools.partial(estimate, name, problem, optimizer=optax.sgd(0.1)), jnp.ones(2), jnp.ones(2))


@pytest.mark.parametrize("kind", WRONG)
def test_every_other_entry_refuses_it_too(kind):
  alpha = weights = jnp.ones(2)
  optimizer, batches, batch = optax.sgd(0.1), jnp.zeros(1), jnp.zeros(())
  state = optimizer.init(weights)
  inner, inner_words = wrong_problem("inner_loss", kind)
  outer, outer_words = wrong_problem("outer_loss", kind)
  for problem, words, call in (
    (inner, inner_words, lambda problem: inner_step(problem, optimizer, weights, alpha, state, batch)),
    (inner, inner_words, lambda problem: decompose(problem, optimizer, weights, alpha, state, batches, batch)),
    (outer, outer_words, lambda problem: decompose(problem, optimizer, weights, alpha, state, batches, batch)),
    (outer, outer_words, lambda problem: outer_curvature(problem, weights, alpha, batches)),
  ):
    with pytest.raises(TypeError, match=words):
      call(problem)
  reference = quadratic()._replace(
    alpha=alpha, weights=weights, train_batches=batches, val_batch=batch, closed_form=None, runs={"sgd": (1,)}
  )
  for problem, words in ((inner, inner_words), (outer, outer_words)):
    with pytest.raises(TypeError, match=words):
      conformance([reference._replace(problem=problem)], ["first_order"])


def test_a_python_number_is_a_scalar():
  problem = BilevelProblem(right_loss, lambda weights, alpha, batch: 0.5)
  out = estimate("unrolled", problem, jnp.ones(2), jnp.ones(2), optax.sgd(0.1))
  np.testing.assert_array_equal(out.gradient, np.zeros(2))


# Leaves without a derivative.


def constants():
  """Of weights and alpha: no derivative, and each changes under arithmetic."""
  return {
    "count": jnp.array(2**30 + 1, jnp.int32),
    "mask": jnp.array([True, False]),
    "key": jax.random.key(3),
    "old_key": jax.random.PRNGKey(2**31 + 5),
  }


WEIGHTS, ALPHA = {"w": np.array([0.4, -0.3])}, {"a": np.array([0.2, 0.5])}
MOVING = {
  "momentum": optax.sgd(0.1, momentum=0.9),
  "decayed adam": optax.adamw(0.1, weight_decay=0.1),
  "factored": optax.adafactor(0.1),
}


def draw(tree):
  """What a loss may do with constants."""
  both = jax.random.normal(tree["key"], (2,)) + jax.random.normal(tree["old_key"], (2,))
  return jnp.where(tree["mask"], both, tree["count"] / 2**31)


def constants_in_losses(inner_draws, outer_draws):
  def inner_loss(weights, alpha, batch):
    w, a = weights["w"], alpha["a"]
    return jnp.sum((w - jnp.tanh(a) * inner_draws(weights)) ** 2) + 0.1 * jnp.sum(a**2 * w**2) + batch

  def outer_loss(weights, alpha, batch):
    return jnp.sum(jnp.sin(weights["w"] * alpha["a"]) * outer_draws(alpha)) + batch

  return BilevelProblem(inner_loss, outer_loss)


def assert_unchanged(tree):
  for name, leaf in constants().items():
    after = tree[name]
    assert after.dtype == leaf.dtype
    if name == "key":
      after, leaf = jax.random.key_data(after), jax.random.key_data(leaf)
    np.testing.assert_array_equal(after, leaf)


def assert_same(actual, expected):
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-13), actual, expected)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_constant_leaves_pass_through_every_estimator(name):
  """The estimate is that of losses that have them built in, and a state of all leaves serves as one of the floating."""
  drawn = draw(constants())
  built_in = constants_in_losses(lambda weights: drawn, lambda alpha: drawn)
  problem = constants_in_losses(draw, draw)
  weights, alpha = WEIGHTS | constants(), ALPHA | constants()
  for optimizer in MOVING.values() if name in ("unrolled", "mixed_mode") else (MOVING["momentum"],):
    expected = jax.jit(functools.partial(estimate, name, built_in, optimizer=optimizer))(WEIGHTS, ALPHA)
    for init in (optimizer.init, functools.partial(init_optimizer, optimizer)):
      state = init(weights)
      out = jax.jit(functools.partial(estimate, name, problem, optimizer=optimizer))(weights, alpha, state=state)
      assert_same(out.gradient, ALPHA | dict.fromkeys(constants()) | expected.gradient)
      assert_same(out.weights["w"], expected.weights["w"])
      assert jax.tree.structure(out.weights) == jax.tree.structure(weights)
      assert_unchanged(out.weights)
      assert jax.eval_shape(lambda state=out.inner_state: state) == jax.eval_shape(lambda state=state: state)


def test_constant_leaves_pass_through_the_other_entries():
  drawn = draw(constants())
  built_in = constants_in_losses(lambda weights: drawn, lambda alpha: drawn)
  problem = constants_in_losses(draw, draw)
  optimizer, batches, batch = MOVING["momentum"], jnp.zeros(2), jnp.zeros(())

  def everything(problem, weights, alpha, state):
    reached = inner_steps(problem, optimizer, weights, alpha, state, batches)
    terms = decompose(problem, optimizer, weights, alpha, state, batches, batch)
    curvature = outer_curvature(problem, weights, alpha, batches)
    return reached, (terms.direct["a"], terms.total()["a"], summarize(terms), curvature)

  (reached, _, losses), of_leaves = jax.jit(functools.partial(everything, problem))(
    WEIGHTS | constants(), ALPHA | constants(), optimizer.init(WEIGHTS | constants())
  )
  (expected, _, expected_losses), expected_leaves = jax.jit(functools.partial(everything, built_in))(
    WEIGHTS, ALPHA, optimizer.init(WEIGHTS)
  )
  assert_same((reached["w"], losses, of_leaves), (expected["w"], expected_losses, expected_leaves))
  assert_unchanged(reached)


@pytest.mark.parametrize("name", MOVING)
def test_update_parameters_moves_floating_leaves_alone(name):
  """Whatever stands for the constants' gradient: None, or the float0 of jax.grad."""
  optimizer, alpha, floating = MOVING[name], ALPHA | constants(), dict(ALPHA)
  state, expected_state = init_optimizer(optimizer, alpha), optimizer.init(floating)
  arrays = {name: leaf for name, leaf in alpha.items() if name != "key"}  # jax.grad does not take a key
  gradient = jax.grad(lambda tree: jnp.sum(tree["a"] ** 2), allow_int=True)(arrays) | {"key": None}
  for slopes in (gradient, dict.fromkeys(constants()) | {"a": gradient["a"]}):
    moved, _ = update_parameters(optimizer, slopes, state, alpha)
    updates, _ = optimizer.update({"a": gradient["a"]}, expected_state, floating)
    np.testing.assert_array_equal(moved["a"], optax.apply_updates(floating, updates)["a"])
    assert_unchanged(moved)


def test_leaves_that_cannot_be_constants_are_refused_by_name():
  problem, optimizer = BilevelProblem(right_loss, right_loss), optax.sgd(0.1)
  for alpha, weights, words in (
    ({"a": [jnp.ones(2), jnp.ones(2, complex)]}, jnp.ones(2), r"alpha\['a'\]\[1\] is complex128\[2\]: complex leaves"),
    (jnp.ones(2), {"w": jnp.ones((), complex)}, r"weights\['w'\] is complex128\[\]: complex leaves"),
    (jnp.ones(2, jnp.int32), jnp.ones(2), r"alpha has no floating leaf.*; it has alpha int32\[2\]"),
    (jnp.ones(2), {"w": jnp.ones(2, bool)}, r"weights has no floating leaf.*; it has weights\['w'\] bool\[2\]"),
  ):
    with pytest.raises(TypeError, match=words):
      estimate("evolution", problem, weights, alpha, optimizer)
    with pytest.raises(TypeError, match=words):
      decompose(problem, optimizer, weights, alpha, optimizer.init(weights), jnp.zeros(1), jnp.zeros(()))
