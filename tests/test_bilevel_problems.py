"""The standard problems: their exact hypergradients are central differences, and what the estimators find."""

import functools
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from ruas_jax import bilevel
from ruas_jax.bilevel import problems
from ruas_jax.bilevel.problems import PROBLEMS

ROOT = pathlib.Path(__file__).parents[1]
SMALL = {
  "quadratic": {"weights": 6, "alpha": 4, "examples": 8},
  "random_quadratic": {"weights": 5, "alpha": 4, "examples": 40},
  "ridge": {"features": 6, "examples": 12, "correlation": 0.5},
  "logistic": {"features": 5, "examples": 12},
  "hyper_cleaning": {"examples": 20, "validation": 20, "penalty": 1e-2},
  "condensation": {"validation": 20},
  "hyper_representation": {"features": 3, "examples": 20, "validation": 20},
  "learned_schedule": {"steps": 6, "features": 4, "batch": 4, "validation": 10},
  "few_shot": {"tasks": 4, "features": 3},
}
SOLVED = [name for name in PROBLEMS if name != "learned_schedule"]  # `minimum` is one of the inner loss
pytestmark = pytest.mark.usefixtures("x64_module")


@functools.cache
def small(name):
  return PROBLEMS[name](jax.random.key(3), **SMALL[name])


def random_like(tree, seed):
  flat, unravel = ravel_pytree(tree)
  return unravel(0.5 * jax.random.normal(jax.random.key(seed), flat.shape, flat.dtype))


def somewhere(problem):
  """Another alpha than the start, where symmetry could hide an error."""
  return optax.tree.add(problem.alpha, random_like(problem.alpha, 1))


def test_every_problem_has_a_small_version():
  assert set(SMALL) == set(PROBLEMS)


@pytest.mark.parametrize("name", PROBLEMS)
def test_hypergradient_is_the_slope_of_the_value(name):
  problem = small(name)
  alpha, direction, width = somewhere(problem), random_like(problem.alpha, 2), 1e-4
  value = jax.jit(lambda size: problem.value(optax.tree.add_scale(alpha, size, direction)))
  slope = (value(width) - value(-width)) / (2 * width)
  gradient = jax.jit(problem.hypergradient)(alpha)
  assert jax.tree.structure(gradient) == jax.tree.structure(alpha)
  np.testing.assert_allclose(optax.tree.vdot(gradient, direction), slope, rtol=1e-6)
  automatic = jax.jit(jax.grad(problem.value))(alpha)
  jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10), automatic, gradient)


@pytest.mark.parametrize("name", PROBLEMS)
def test_hypergradient_is_that_of_the_estimators(name):
  problem = small(name)
  alpha = somewhere(problem)
  if name == "learned_schedule":
    steps, inner, start = len(problem.train["step"]), optax.sgd(1.0), problem.weights
    estimate = bilevel.make_estimator("unrolled", inner=inner, steps=steps)
    batches = jax.tree.map(lambda leaf: leaf[:, None], problem.train)
  else:
    inner, start = optax.sgd(0.0), jax.jit(problem.minimum)(alpha)
    estimate = bilevel.make_estimator("cg", inner=inner)
    batches = jax.tree.map(lambda leaf: leaf[None], problem.train)
  out = jax.jit(functools.partial(estimate, problem.problem))(
    start, alpha, inner.init(start), batches, problem.validation
  )
  np.testing.assert_allclose(out.outer_loss, jax.jit(problem.value)(alpha), rtol=1e-9)
  exact = jax.jit(problem.hypergradient)(alpha)
  for leaf, expected in zip(jax.tree.leaves(out.gradient), jax.tree.leaves(exact), strict=True):
    np.testing.assert_allclose(leaf, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", SOLVED)
def test_the_inner_gradient_is_zero_at_the_minimum(name):
  problem = small(name)
  alpha = somewhere(problem)
  slope = lambda weights: optax.tree.norm(jax.grad(problem.problem.inner_loss)(weights, alpha, problem.train))
  assert jax.jit(slope)(problem.minimum(alpha)) < 1e-9
  assert slope(problem.weights) > 1e-3


@pytest.mark.parametrize("name", PROBLEMS)
def test_losses_are_means_over_the_batch(name):
  problem = small(name)
  weights, alpha = random_like(problem.weights, 4), somewhere(problem)
  for loss, data in zip(problem.problem, (problem.train, problem.validation), strict=True):
    count = len(jax.tree.leaves(data)[0])
    assert count % 2 == 0 and {len(leaf) for leaf in jax.tree.leaves(data)} == {count}
    halves = [jax.tree.map(lambda leaf: leaf[part::2], data) for part in (0, 1)]
    both = [float(loss(weights, alpha, half)) for half in halves]
    np.testing.assert_allclose(np.mean(both), loss(weights, alpha, data), rtol=1e-12)
    assert both[0] != both[1]


@pytest.mark.parametrize("name", ["quadratic", "random_quadratic"])
def test_the_hypergradient_is_zero_at_the_known_solution(name):
  problem = small(name)
  weights, alpha = problem.solution
  np.testing.assert_allclose(problem.hypergradient(alpha), 0, atol=1e-10)
  np.testing.assert_allclose(weights, problem.minimum(alpha), atol=1e-12)
  assert problem.value(alpha) < problem.value(somewhere(problem))
  assert float(problem.measures(weights, alpha)["distance"]) == 0


def test_the_quadratic_has_the_conditioning_asked_for():
  problem = problems.quadratic(jax.random.key(0), weights=5, alpha=3, condition=50.0, alpha_condition=7.0)
  inner = jnp.linalg.eigvalsh(jax.hessian(problem.problem.inner_loss)(problem.weights, problem.alpha, problem.train))
  outer = jnp.linalg.eigvalsh(jax.hessian(problem.value)(problem.alpha))
  np.testing.assert_allclose(inner[jnp.array([0, -1])], [1 / 50, 1])
  np.testing.assert_allclose(outer[jnp.array([0, -1])], [1 / 7, 1])


def test_the_random_quadratic_has_the_spectra_asked_for():
  """In expectation, over many examples."""
  problem = problems.random_quadratic(jax.random.key(0), weights=4, alpha=3, examples=100_000, cross=0.05)
  second = jax.hessian(problem.problem.inner_loss, argnums=(0, 1))(problem.weights, problem.alpha, problem.train)
  np.testing.assert_allclose(jnp.linalg.eigvalsh(second[0][0]), np.geomspace(0.1, 1, 4), rtol=0.03)
  np.testing.assert_allclose(jnp.linalg.eigvalsh(second[1][1]), [0, 0.1, 1], rtol=0.03, atol=1e-9)
  np.testing.assert_allclose(jnp.linalg.svd(second[0][1])[1][0], 0.05, rtol=0.3)


def test_what_cannot_be_made_is_refused():
  with pytest.raises(ValueError, match="alpha = 4: must be at most the number of weights, 3"):
    problems.quadratic(jax.random.key(0), weights=3, alpha=4)
  with pytest.raises(ValueError, match="cross = 100"):
    problems.random_quadratic(jax.random.key(0), weights=3, alpha=3, examples=10, cross=100.0)
  with pytest.raises(ValueError, match="1900 digits asked for: scikit-learn has 1797"):
    problems.condensation(jax.random.key(0), validation=1900)


def test_hyper_cleaning_separates_wrong_from_clean():
  problem = small("hyper_cleaning")
  wrong = problem.train["wrong"]
  assert int(wrong.sum()) == round(0.4 * len(wrong))
  weights = jnp.zeros_like(problem.weights)
  for alpha, auc in ((-1.0 * wrong, 1.0), (1.0 * wrong, 0.0), (problem.alpha, 0.5)):
    assert float(problem.measures(weights, alpha)["auc"]) == auc
  labels = lambda share: PROBLEMS["hyper_cleaning"](jax.random.key(3), **SMALL["hyper_cleaning"], wrong=share).train
  assert ((labels(0.0)["label"] != problem.train["label"]) == wrong).all()


@pytest.mark.parametrize("name", PROBLEMS)
def test_measures_are_numbers(name):
  problem = small(name)
  measured = problem.measures(problem.minimum(problem.alpha), problem.alpha)
  assert measured and all(jnp.shape(number) == () and jnp.isfinite(number) for number in measured.values())


@pytest.mark.parametrize("name", PROBLEMS)
def test_numbers_have_the_precision_that_jax_is_set_to(name):
  def dtypes():
    problem = PROBLEMS[name](jax.random.key(3), **SMALL[name])
    leaves = jax.tree.leaves((problem.train, problem.validation, problem.weights, problem.alpha))
    results = jax.eval_shape(problem.value, problem.alpha), jax.eval_shape(problem.hypergradient, problem.alpha)
    return {leaf.dtype for leaf in [*leaves, *jax.tree.leaves(results)] if jnp.issubdtype(leaf.dtype, jnp.floating)}

  assert dtypes() == {jnp.dtype("float64")}
  with jax.enable_x64(False):
    assert dtypes() == {jnp.dtype("float32")}


def test_digits_without_scikit_learn(monkeypatch):
  monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
  with pytest.raises(ImportError, match="pip install scikit-learn") as caught:
    problems.hyper_cleaning(jax.random.key(0))
  assert "\n" not in str(caught.value)


def test_importing_bilevel_loads_nothing_else_of_ours():
  program = """
import sys
import ruas_jax.bilevel
ours = {name for name in sys.modules if name.startswith("ruas_jax.")}
assert all(name.startswith("ruas_jax.bilevel") for name in ours), ours
heavy = {"sklearn", "flax", "orbax", "grain", "tyro", "PIL", "matplotlib", "skimage"} & set(sys.modules)
assert not heavy, heavy
"""
  done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
