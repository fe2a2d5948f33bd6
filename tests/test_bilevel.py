"""What estimators return beside the hypergradient, what they accept, and the inner update that they share.

The hypergradients themselves are the conformance table's (`test_conformance.py`).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from ruas_jax.bilevel import ESTIMATORS, BilevelProblem, make_estimator
from ruas_jax.bilevel.optimizer import apply_optimizer
from ruas_jax.bilevel.testing.conformance import conformance
from ruas_jax.bilevel.testing.testbed import INNERS, RATE, Inner, logistic_regression, quadratic, ravel
from ruas_jax.optimizers import OptimizerOptions, make_optimizer

pytestmark = pytest.mark.usefixtures("x64_module")

PROBLEM = quadratic()
KEY = jax.random.key(0)
OPTIONS = {
  "forward": {"chunk": 2},
  "truncated": {"last": 5},
  "neumann": {"terms": 4, "scale": 0.3},
  "nystrom": {"rank": 2, "damping": 0.1},
  "evolution": {"samples": 20, "sigma": 1e-3},
}
UNROLLED = ("unrolled", "mixed_mode", "forward", "truncated")


def assert_relative(actual, expected, tolerance=1e-12):
  actual, expected = (np.asarray(ravel(tree)) for tree in (actual, expected))
  assert np.linalg.norm(actual - expected) <= tolerance * np.linalg.norm(expected)


def run(name, optimizer, steps=1, *, alpha=PROBLEM.alpha, key=KEY, **options):
  estimator = make_estimator(name, inner=optimizer, steps=steps, **options)

  @jax.jit
  def estimate(weights, alpha, batches, validation):
    return estimator(PROBLEM.problem, weights, alpha, optimizer.init(weights), batches, validation, key=key)

  return estimate(PROBLEM.weights, alpha, PROBLEM.train_batches[:steps], PROBLEM.val_batch)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "evolution"])
def test_estimates_can_be_differentiated(name, steps):
  """By a number that the losses close over, as in a problem of three levels: against central differences."""
  if name == "finite_difference" and steps > 1:
    pytest.skip("it takes one step")
  optimizer = INNERS["momentum"].optimizer
  options = OPTIONS.get(name, {}) | ({"last": steps} if name == "truncated" else {})  # what is cut off is a constant
  estimator = make_estimator(name, inner=optimizer, steps=steps, **options)
  flat = lambda tree: ravel_pytree(tree)[0]

  @jax.jit
  def estimate(scale):
    def loss(inner):
      return lambda weights, alpha, batch: (
        inner(weights, alpha, batch) * scale + jnp.sum(jnp.sin(scale * flat(weights)))
      )

    problem = BilevelProblem(*map(loss, PROBLEM.problem))
    batches = PROBLEM.train_batches[:steps]
    state = optimizer.init(PROBLEM.weights)
    out = estimator(problem, PROBLEM.weights, PROBLEM.alpha, state, batches, PROBLEM.val_batch, key=KEY)
    return {"loss": out.outer_loss, "gradient": flat(out.gradient), "weights": flat(out.weights)}

  step = 1e-5
  numeric = jax.tree.map(lambda above, below: (above - below) / (2 * step), estimate(0.7 + step), estimate(0.7 - step))
  for entry, derivative in jax.jacrev(estimate)(0.7).items():
    np.testing.assert_allclose(derivative, numeric[entry], rtol=1e-6, atol=1e-7, err_msg=entry)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_comes_with_the_gradient_and_populations(name):
  """On three alphas at once, behind a momentum whose rate is a schedule and so counts its steps.

  All is linear here, so the hypergradient is affine in alpha.
  """
  steps = 1 if name == "finite_difference" else 5
  momentum = INNERS["momentum"].optimizer
  optimizer = optax.sgd(optax.constant_schedule(RATE), momentum=0.9)
  estimator = make_estimator(name, inner=optimizer, steps=steps, **OPTIONS.get(name, {}))
  batches = PROBLEM.train_batches[:steps]

  @jax.jit
  @jax.vmap
  def estimate(alpha):
    state = optimizer.init(PROBLEM.weights)
    return estimator(PROBLEM.problem, PROBLEM.weights, alpha, state, batches, PROBLEM.val_batch, key=KEY)

  out = estimate(jax.tree.map(lambda leaf: jnp.stack([0 * leaf, leaf, 2 * leaf]), PROBLEM.alpha))
  at = lambda tree, index: jax.tree.map(lambda leaf: leaf[index], tree)
  zero, one, two = (ravel(at(out.gradient, index)) for index in range(3))
  assert_relative(two - one, one - zero, 1e-9)
  assert jax.tree.structure(out.gradient) == jax.tree.structure(PROBLEM.alpha)
  if name in UNROLLED:
    assert_relative(one, PROBLEM.closed_form.unrolled("momentum", steps, steps))

  middle, weights, state = at(out, 1), PROBLEM.weights, momentum.init(PROBLEM.weights)
  reached, _ = PROBLEM.closed_form.trajectory("momentum", steps, steps)
  assert_relative(middle.weights, reached)
  assert_relative(middle.diagnostics["inner_loss"], PROBLEM.problem.inner_loss(weights, PROBLEM.alpha, batches[0]))
  evaluated = weights if name == "first_order" else middle.weights
  assert_relative(middle.outer_loss, PROBLEM.problem.outer_loss(evaluated, PROBLEM.alpha, PROBLEM.val_batch))
  for batch in batches:
    gradient = jax.grad(PROBLEM.problem.inner_loss)(weights, PROBLEM.alpha, batch)
    updates, state = momentum.update(gradient, state)
    weights = optax.apply_updates(weights, updates)
  assert_relative(optax.tree.get(middle.inner_state, "trace"), optax.tree.get(state, "trace"))
  count = optax.tree.get(middle.inner_state, "count")
  assert count == steps and count.dtype == jnp.int32


def test_incoming_state_is_a_constant():
  """Even where the caller's own graph makes it a function of alpha."""
  optimizer = INNERS["momentum"].optimizer
  estimator = make_estimator("unrolled", inner=optimizer)

  def loss_through(alpha):
    scaled = jax.tree.map(lambda leaf: leaf * jnp.sum(alpha["all"]), PROBLEM.weights)
    state = optax.tree.set(optimizer.init(PROBLEM.weights), trace=scaled)
    batches = PROBLEM.train_batches[:1]
    out = estimator(PROBLEM.problem, PROBLEM.weights, alpha, state, batches, PROBLEM.val_batch)
    return out.outer_loss, out.gradient

  through, estimate = jax.jit(jax.grad(loss_through, has_aux=True))(PROBLEM.alpha)
  assert_relative(through, estimate)


def test_diagnostics_of_the_implicit_ones():
  """CG's residual is gone, the short series' is the remainder of the series, and both tell the way to the minimum."""
  form = PROBLEM.closed_form
  weights, _ = form.trajectory("sgd", 5, 5)
  to_weights, _ = form.outer_gradients(weights)
  remainder = np.linalg.matrix_power(np.eye(4) - 0.3 * form.hessian, 4) @ to_weights
  solved = run("cg", INNERS["sgd"].optimizer, 5, damping=0.1)
  series = run("neumann", INNERS["sgd"].optimizer, 5, **OPTIONS["neumann"])
  assert solved.diagnostics["residual"] <= 1e-12
  assert_relative(series.diagnostics["residual"], np.linalg.norm(remainder) / np.linalg.norm(to_weights))
  gradient = form.hessian @ weights + form.mixed @ PROBLEM.alpha["all"] - PROBLEM.train_batches[4]
  assert_relative(solved.diagnostics["inner_gradient_norm"], np.linalg.norm(gradient))


def test_series_that_diverges_says_so():
  """Beyond a scale of two over the largest eigenvalue; below it a short series is what it is meant to be."""
  largest = np.linalg.eigvalsh(PROBLEM.closed_form.hessian)[-1]
  for terms, share, expected in ((1, 0.5, True), (4, 0.5, True), (40, 1.9, True), (40, 3.0, False), (9000, 3.0, False)):
    diagnostics = run("neumann", INNERS["sgd"].optimizer, terms=terms, scale=share / largest).diagnostics
    assert diagnostics["converged"].dtype == bool and diagnostics["converged"] == expected, (terms, share)
    assert bool(diagnostics["residual"] < 1) == expected  # or not a number


def singular(curvatures):
  """Inner losses whose Hessian has these eigenvalues, and an outer gradient `[1, 2, 3]` by the weights."""
  return BilevelProblem(
    lambda w, a, _: 0.5 * jnp.sum(curvatures * w**2) - jnp.sum(w * a), lambda w, a, _: w @ jnp.arange(1.0, 4.0)
  )


@pytest.mark.parametrize(
  ("name", "options", "curvatures", "converged", "solution"),
  [
    ("cg", {}, [1.0, 2.0, 4.0], True, [1, 1, 0.75]),
    ("cg", {"tolerance": 0.5}, [1.0, 2.0, 4.0], True, None),
    ("cg", {"iterations": 1}, [1.0, 2.0, 4.0], False, None),
    ("cg", {}, [1.0, 1.0, 0.0], False, None),  # the third direction has no curvature
    ("cg", {}, [0.0, 0.0, 0.0], False, [0, 0, 0]),
    ("cg", {"damping": 0.5}, [0.0, 0.0, 0.0], True, [2, 4, 6]),
    ("neumann", {"terms": 3, "scale": 0.1}, [0.0, 0.0, 0.0], False, None),
    ("nystrom", {"rank": 3, "damping": 0.5}, [1.0, 2.0, 4.0], True, [2 / 3, 0.8, 2 / 3]),
    ("nystrom", {"rank": 1, "damping": 1e-3}, [1.0, 2.0, 4.0], False, None),  # what the column misses is over-damped
  ],
)
def test_converged_of_implicit_estimators(name, options, curvatures, converged, solution):
  """And the estimate is finite in all cases, of CG the best iterate."""
  estimator = make_estimator(name, inner=optax.sgd(0.0), **options)

  @jax.jit
  def estimate(alpha):
    weights, optimizer = jnp.zeros(3), optax.sgd(0.0)
    state = optimizer.init(weights)
    problem = singular(np.array(curvatures))
    return estimator(problem, weights, alpha, state, jnp.zeros(1), jnp.zeros(()), key=jax.random.key(0))

  out = estimate(jnp.ones(3))
  assert np.isfinite(out.gradient).all() and out.diagnostics["converged"] == converged
  assert np.isfinite(out.diagnostics["residual"])
  if name == "cg":
    assert out.diagnostics["residual"] <= 1
  if solution is not None:  # the mixed derivative is minus one
    np.testing.assert_allclose(out.gradient, solution, rtol=1e-10)


def test_cg_of_a_population_is_cg_of_each():
  """One member has a singular Hessian, and the other goes on."""
  estimator = make_estimator("cg", inner=optax.sgd(0.0))

  @jax.jit
  @jax.vmap
  def estimate(curvatures):
    return estimator(singular(curvatures), jnp.zeros(3), jnp.ones(3), optax.sgd(0.0).init(0.0), jnp.zeros(1), 0.0)

  out = estimate(jnp.array([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]]))
  np.testing.assert_array_equal(out.diagnostics["converged"], [True, False])
  np.testing.assert_allclose(out.gradient, [[1, 1, 0.75], [0, 0, 0]], rtol=1e-10)


def test_cg_stops_when_it_is_told_to():
  residual = lambda **options: float(run("cg", INNERS["sgd"].optimizer, **options).diagnostics["residual"])
  assert 1e-6 < residual(iterations=2) < residual(iterations=1)
  assert 1e-6 < residual(tolerance=0.5) <= 0.5


def test_nystrom_of_few_columns_depends_on_the_key():
  first, again, other = (
    run("nystrom", INNERS["sgd"].optimizer, rank=2, damping=0.1, key=jax.random.key(seed)).gradient["all"]
    for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert np.linalg.norm(first - other) > 1e-3 * np.linalg.norm(first)


def test_finite_difference_without_a_direction_is_the_direct_term():
  """A rate of zero moves nothing, and its relative width would divide by zero."""
  out = run("finite_difference", optax.sgd(0.0))
  assert_relative(out.gradient, PROBLEM.closed_form.unrolled("sgd", 0, 0))


# The inner update.

OPTIMIZERS = {
  "adam": make_optimizer(OptimizerOptions("adam", learning_rate=0.05, momentum=0.5, weight_decay=1e-2)),
  "sgd_with_decay": make_optimizer(OptimizerOptions("sgd", learning_rate=0.1, momentum=0.9, weight_decay=1e-2)),
  "clipped": make_optimizer(OptimizerOptions("sgd", learning_rate=0.1, momentum=0.9, clip=0.1)),
  "clipped_rmsprop": optax.chain(optax.clip_by_global_norm(0.1), optax.rmsprop(0.1, momentum=0.5)),
}


def update_without_loss(optimizer, gradient, weights):
  """Of an optimiser that does not ask for the loss."""
  return apply_optimizer(optimizer, gradient, optimizer.init(weights), weights, jnp.zeros(()), None, None)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_inner_optimizer_against_central_differences(name, monkeypatch):
  """What is differentiated is the optimiser itself, whichever it is."""
  monkeypatch.setitem(INNERS, name, Inner(OPTIMIZERS[name]))
  (row,) = conformance([logistic_regression()._replace(runs={name: (3,)})], ["unrolled"])
  assert row.against == "central difference" and row.met, row


@pytest.mark.parametrize("estimator", ["unrolled", "mixed_mode", "forward", "finite_difference"])
def test_hypergradient_is_finite_where_the_inner_gradient_is_zero(estimator):
  """A root and a norm have no derivative there."""
  optimizer = OPTIMIZERS["clipped_rmsprop"]
  problem = BilevelProblem(lambda w, a, _: jnp.sum(w**2 * a), lambda w, a, _: jnp.sum(w * a))
  weights = jnp.zeros(2)
  estimate = make_estimator(estimator, inner=optimizer)
  out = jax.jit(lambda a: estimate(problem, weights, a, optimizer.init(weights), jnp.zeros(1), jnp.zeros(())))(
    jnp.ones(2)
  )
  assert np.all(np.isfinite(out.gradient)) and np.all(np.isfinite(out.weights))


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_update_is_the_optimizers_own(name, dtype):
  """To the last bit, at a zero gradient and elsewhere; and elsewhere its derivative is too."""
  optimizer = OPTIMIZERS[name]
  weights = jnp.asarray([0.5, -2.0], dtype)

  def plain(gradient):
    updates, state = optimizer.update(gradient, optimizer.init(weights), weights)
    return optax.apply_updates(weights, updates), state

  def safe(gradient):
    return update_without_loss(optimizer, gradient, weights)

  def value_and_slope(update):
    return jax.jit(lambda gradient: (update(gradient), jax.jacrev(lambda gradient: update(gradient)[0])(gradient)))

  own, optax_own = value_and_slope(safe), value_and_slope(plain)
  for gradient in jnp.asarray([[0.0, 0.0], [0.0, 0.3], [-1e-3, 0.7]], dtype):
    (value, slope), (expected, expected_slope) = own(gradient), optax_own(gradient)
    jax.tree.map(np.testing.assert_array_equal, value, expected)
    if np.all(gradient):
      np.testing.assert_allclose(slope, expected_slope, rtol=100 * float(jnp.finfo(dtype).eps))


def test_derivatives_beside_zero():
  """A clip that does not cut is the identity, and Adam's first step is `g / (|g| + epsilon)`."""

  def at_zero(optimizer, dtype):
    new_weights = lambda gradient: update_without_loss(optimizer, gradient, gradient)[0]
    return jax.jit(jax.jacrev(lambda gradient: new_weights(gradient) - gradient))(jnp.zeros(2, dtype))

  for dtype in (jnp.float64, jnp.float32):
    clipped = at_zero(optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(RATE)), dtype)
    np.testing.assert_allclose(clipped, -RATE * np.eye(2), rtol=1e-6)
    np.testing.assert_allclose(at_zero(optax.adam(RATE), dtype), -RATE / 1e-8 * np.eye(2), rtol=1e-5)


def test_adam_and_decay_are_the_textbooks():
  """Two steps of Adam with L2 decay in the gradient, as PyTorch's `Adam(weight_decay=...)`."""
  options = OptimizerOptions("adam", learning_rate=3e-4, momentum=0.5, second_moment=0.999, weight_decay=1e-3)
  optimizer = make_optimizer(options)
  expected, first, second = np.array([0.7, -1.2, 0.05, 2.0]), 0.0, 0.0
  w, state = jnp.asarray(expected), optimizer.init(jnp.asarray(expected))
  for step, gradient in enumerate(PROBLEM.train_batches[:2], start=1):
    updates, state = optimizer.update(jnp.asarray(gradient), state, w)
    w = optax.apply_updates(w, updates)
    whole = gradient + 1e-3 * expected
    first, second = 0.5 * first + 0.5 * whole, 0.999 * second + 0.001 * whole**2
    expected = expected - 3e-4 * (first / (1 - 0.5**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
  np.testing.assert_allclose(w, expected, rtol=1e-12)


# Wrong uses.

REFUSED = {
  "unknown name": ("exact", {}, ValueError, r"'exact' is not one of .*first_order.*unrolled"),
  "no steps": ("unrolled", {"steps": 0}, ValueError, "steps must be at least 1"),
  "unknown option": ("unrolled", {"epsilon": 1e-2}, TypeError, "unrolled has no option 'epsilon'"),
  "missing option": ("truncated", {}, TypeError, "truncated needs the option 'last'"),
  "last of none": ("truncated", {"steps": 3, "last": 0}, ValueError, r"1\.\.3"),
  "last of too many": ("truncated", {"steps": 3, "last": 4}, ValueError, r"1\.\.3"),
  "chunk": ("forward", {"chunk": 0}, ValueError, "chunk"),
  "steps of a difference": ("finite_difference", {"steps": 2}, ValueError, "one inner step, not 2"),
  "epsilon": ("finite_difference", {"epsilon": 0.0}, ValueError, "epsilon must be positive"),
  "epsilon rule": ("finite_difference", {"epsilon_rule": "tiny"}, ValueError, "relative or absolute, not 'tiny'"),
  "differenced loss": ("finite_difference", {"hvp_loss": "outer"}, ValueError, "outer_on_train_batch, not 'outer'"),
  "damping": ("cg", {"damping": -1.0}, ValueError, "cg: "),
  "iterations": ("cg", {"iterations": 0}, ValueError, "cg: "),
  "tolerance": ("cg", {"tolerance": -1e-3}, ValueError, "cg: "),
  "terms": ("neumann", {"terms": 0, "scale": 0.1}, ValueError, "terms"),
  "scale": ("neumann", {"terms": 3, "scale": 0.0}, ValueError, "scale"),
  "rank": ("nystrom", {"rank": 0, "damping": 0.1}, ValueError, "rank"),
  "no damping": ("nystrom", {"rank": 2, "damping": 0.0}, ValueError, "damping"),
  "samples": ("evolution", {"samples": 0, "sigma": 0.1}, ValueError, "samples"),
  "sigma": ("evolution", {"samples": 2, "sigma": 0.0}, ValueError, "sigma"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_options_are_refused(case):
  name, options, error, words = REFUSED[case]
  with pytest.raises(error, match=words):
    make_estimator(name, inner=optax.sgd(RATE), **options)


def test_wrong_calls_are_refused():
  with pytest.raises(ValueError, match="rank 5 is more than the 4 weights"):
    run("nystrom", optax.sgd(RATE), rank=5, damping=0.1)
  for name in ("nystrom", "evolution"):
    with pytest.raises(ValueError, match=f"{name} draws at random"):
      run(name, optax.sgd(RATE), key=None, **OPTIONS[name])
  estimator = make_estimator("unrolled", inner=optax.sgd(RATE), steps=2)
  state = optax.sgd(RATE).init(PROBLEM.weights)
  with pytest.raises(ValueError, match="length 2"):
    estimator(PROBLEM.problem, PROBLEM.weights, PROBLEM.alpha, state, PROBLEM.train_batches, PROBLEM.val_batch)
