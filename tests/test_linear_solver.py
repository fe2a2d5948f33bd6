"""Conjugate gradients: exact, preconditioned, and open about matrices that they are not for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ruas_jax.bilevel import BilevelProblem, jacobi_preconditioner, make_estimator
from ruas_jax.bilevel.conjugate_gradient import conjugate_gradient

pytestmark = pytest.mark.usefixtures("x64_module")

SIZE = 30


def symmetric(values, seed=0):
  basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(SIZE, SIZE)))[0]
  return basis * values @ basis.T


def solve(matrix, tolerance=1e-12, iterations=None, **options):
  right = jnp.asarray(np.random.default_rng(1).normal(size=SIZE))
  found = jax.jit(
    lambda matrix, right: conjugate_gradient(
      lambda x: matrix @ x, right, tolerance=tolerance, iterations=iterations, **options
    )
  )(matrix, right)
  return found, np.asarray(right)


def test_a_positive_definite_matrix():
  values = np.geomspace(1, 100, SIZE)
  matrix = symmetric(values)
  found, right = solve(matrix)
  np.testing.assert_allclose(found.x, np.linalg.solve(matrix, right), rtol=1e-9)
  assert not found.indefinite and 1 <= found.curvature <= 100 and 1 < found.iterations <= 2 * SIZE


def test_the_start_is_used():
  matrix = symmetric(np.geomspace(1, 100, SIZE))
  cold, _ = solve(matrix)
  warm, _ = solve(matrix, tolerance=1e-10, start=cold.x)
  assert warm.iterations == 0 and np.all(warm.x == cold.x)
  near, _ = solve(matrix, start=cold.x + 1e-6)
  assert 0 < near.iterations < cold.iterations


def test_a_preconditioner_saves_iterations():
  scales = np.geomspace(1, 1e4, SIZE)
  matrix = symmetric(np.linspace(1, 2, SIZE)) * np.sqrt(scales)[:, None] * np.sqrt(scales)
  plain, right = solve(matrix)
  better, _ = solve(matrix, preconditioner=lambda x: x / jnp.asarray(scales))
  expected = np.linalg.solve(matrix, right)
  for found in (plain, better):
    np.testing.assert_allclose(found.x, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())
  assert better.iterations < plain.iterations / 2


def test_an_indefinite_matrix_is_said():
  values = np.geomspace(1, 100, SIZE)
  values[0] = -1
  found, _ = solve(symmetric(values))
  assert found.indefinite and found.curvature < 0 and np.isfinite(found.x).all()


@pytest.mark.parametrize("zeros", [1, 5, 20, SIZE])
def test_a_singular_matrix_is_not_called_indefinite(zeros):
  """The solution does not grow in the null space, where a direction's curvature is nothing but rounding."""
  values = np.geomspace(1, 100, SIZE)
  values[:zeros] = 0
  for seed in range(4):
    matrix = symmetric(values, seed)
    found, right = solve(matrix, iterations=200)
    assert not found.indefinite and np.linalg.norm(found.x) < 1e3 * np.linalg.norm(right)
    assert np.linalg.norm(matrix @ found.x - right) <= np.linalg.norm(right)


@pytest.mark.parametrize("scale", [1e6, 1e8, 1e10])
def test_a_preconditioner_may_bridge_scales_that_float32_cannot(scale):
  """Curvatures far below that of the first direction are no rounding then."""
  with jax.enable_x64(False):
    scales = np.where(np.arange(SIZE) < SIZE // 2, scale, 1.0)
    matrix = np.float32(symmetric(np.linspace(1, 3, SIZE)) * np.sqrt(scales)[:, None] * np.sqrt(scales))
    right = np.float32(np.where(scales > 1, np.random.default_rng(1).normal(size=SIZE), 0))
    run = jax.jit(
      lambda right: conjugate_gradient(
        lambda x: matrix @ x, right, tolerance=1e-6, iterations=100, preconditioner=lambda x: x / np.diag(matrix)
      )
    )
    found, exact = run(right), np.linalg.solve(np.float64(matrix), right)
    np.testing.assert_allclose(found.x, exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max())


def test_a_small_damping_counts_in_float32():
  """Most of the solution is in the null space of a matrix of rank three, where only the damping has curvature."""
  with jax.enable_x64(False):
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, SIZE)))[0][:, :3]
    low, right = np.float32(basis @ basis.T), np.float32(np.random.default_rng(1).normal(size=SIZE))
    run = jax.jit(
      lambda right: conjugate_gradient(lambda x: low @ x + jnp.float32(1e-7) * x, right, tolerance=1e-6, iterations=100)
    )
    exact = np.linalg.solve(np.float64(low) + 1e-7 * np.eye(SIZE), right)
    assert np.linalg.norm(run(right).x - exact) < 0.5 * np.linalg.norm(exact)


def test_too_few_iterations_return_the_best_iterate():
  matrix = symmetric(np.geomspace(1, 1e6, SIZE))
  found, right = solve(matrix, iterations=3)
  assert found.iterations == 3
  assert np.linalg.norm(matrix @ found.x - right) <= np.linalg.norm(right)


PROBLEM = BilevelProblem(
  lambda w, a, batch: 0.5 * jnp.sum(a * w["first"] ** 2) + 0.5 * jnp.sum(w["second"] ** 2) - jnp.sum(w["first"]),
  lambda w, a, batch: jnp.sum(w["first"]) + jnp.sum(w["second"]),
)


def test_jacobi_is_exact_for_a_diagonal_hessian_and_joins_cg():
  weights, alpha = {"first": jnp.ones(3), "second": jnp.ones(2)}, jnp.array([1.0, 10.0, 100.0])
  preconditioner = jacobi_preconditioner(PROBLEM, weights, alpha, 0, jax.random.key(0), probes=1)
  scaled = preconditioner(weights)
  np.testing.assert_allclose(scaled["first"], 1 / alpha, rtol=1e-12)
  np.testing.assert_allclose(scaled["second"], 1, rtol=1e-12)
  found = {
    name: make_estimator("cg", inner=optax.sgd(0.0), **options)(
      PROBLEM, weights, alpha, optax.sgd(0.0).init(weights), jnp.zeros(1), 0.0
    )
    for name, options in (("plain", {}), ("jacobi", {"preconditioner": preconditioner}))
  }
  assert found["jacobi"].diagnostics["iterations"] == 1 < found["plain"].diagnostics["iterations"]
  np.testing.assert_allclose(found["jacobi"].gradient, found["plain"].gradient, rtol=1e-9)


def test_the_cg_estimator_says_that_a_hessian_is_indefinite():
  weights, alpha = {"first": jnp.ones(3), "second": jnp.ones(2)}, jnp.array([1.0, 10.0, -1.0])
  estimator, state = make_estimator("cg", inner=optax.sgd(0.0)), optax.sgd(0.0).init(weights)
  assert estimator(PROBLEM, weights, alpha, state, jnp.zeros(1), 0.0).diagnostics["indefinite"]
  assert not estimator(PROBLEM, weights, jnp.abs(alpha), state, jnp.zeros(1), 0.0).diagnostics["indefinite"]
