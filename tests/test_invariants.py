"""What a loss computes from alpha alone is computed before the loop of inner steps, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ruas_jax.bilevel import BilevelProblem, inner_steps
from ruas_jax.bilevel.invariants import with_invariants

pytestmark = pytest.mark.usefixtures("x64_module")

ALPHA = np.linspace(-1.0, 1.0, 6).reshape(3, 2)
IMAGES = np.sin(np.arange(12.0)).reshape(4, 3)
WEIGHTS = {"w": np.array([0.3, -0.2]), "b": np.array(0.1)}
BATCH = np.array([1.0, 2.0, 0.5, -1.0])


@jax.jit
def features(alpha):
  return jnp.tanh(IMAGES @ alpha)


def loss(weights, alpha, batch):
  """With a jitted function, one that depends on both, a loop, a literal in a call, and a custom derivative."""
  mixed = jax.jit(lambda w, scale: jax.nn.relu(features(alpha) @ w) * scale)(weights["w"], 2.0)
  looped = jax.lax.fori_loop(0, 2, lambda _, value: jnp.cos(value) + alpha.sum() * value, weights["b"])
  return jnp.mean((mixed - batch) ** 2) + looped + jnp.sum(jax.nn.softmax(alpha, axis=-1)) * weights["b"]


def operations_of(jaxpr, inside=False):
  """Names of the operations inside loops."""
  for equation in jaxpr.eqns:
    if inside:
      yield equation.primitive.name
    for parameter in equation.params.values():
      if hasattr(parameter, "jaxpr") or hasattr(parameter, "eqns"):
        yield from operations_of(getattr(parameter, "jaxpr", parameter), inside or equation.primitive.name == "scan")


def test_value_and_derivatives_are_those_of_the_function():
  def of_all(weights, alpha, batch):
    function = lambda weights, batch: loss(weights, alpha, batch)
    return with_invariants(function, WEIGHTS, BATCH)(weights, batch)

  arguments = jax.tree.map(lambda leaf: 1.1 * leaf, (WEIGHTS, ALPHA, BATCH))
  for transform in (
    lambda f: f,
    lambda f: jax.grad(f, argnums=(0, 1, 2)),
    lambda f: jax.jacfwd(jax.grad(f, argnums=1)),
    lambda f: jax.jit(jax.grad(lambda *arguments: optax.tree.norm(jax.grad(f)(*arguments)), argnums=1)),
  ):
    found, expected = (transform(function)(*arguments) for function in (of_all, loss))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), found, expected)
  stacked = WEIGHTS, np.stack([ALPHA, -ALPHA]), BATCH
  found, expected = (jax.vmap(function, (None, 0, None))(*stacked) for function in (of_all, loss))
  np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 3])
def test_features_of_alpha_are_outside_the_loop(steps):
  problem = BilevelProblem(loss, loss)
  batches = jnp.broadcast_to(BATCH, (steps, 4))
  optimizer = optax.sgd(0.1)

  def last(alpha):
    weights, _, _ = inner_steps(problem, optimizer, WEIGHTS, alpha, optimizer.init(WEIGHTS), batches)
    return weights["w"].sum()

  found = set(operations_of(jax.make_jaxpr(jax.value_and_grad(last))(ALPHA).jaxpr))
  assert "tanh" not in found
  assert ("dot_general" in found) == (steps > 1)  # the product with the weights is inside

  def by_hand(alpha):
    weights = WEIGHTS
    for _ in range(steps):
      weights = optax.tree.add_scale(weights, -0.1, jax.grad(loss)(weights, alpha, BATCH))
    return weights["w"].sum()

  np.testing.assert_allclose(jax.grad(last)(ALPHA), jax.grad(by_hand)(ALPHA), rtol=1e-12)


def test_a_derivative_that_is_not_linear_stays_in_the_loop():
  """Clipped in every step, and not once after their sum; also inside a branch."""

  @jax.custom_vjp
  def clipped(x):
    return x

  clipped.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -0.05, 0.05),))
  branch = lambda alpha: jax.lax.cond(alpha[0, 0] < 5, clipped, lambda alpha: alpha, alpha)
  for clip in (clipped, branch):
    problem = BilevelProblem(*2 * [lambda w, a, _, clip=clip: jnp.sum((w - jnp.tanh(clip(a))) ** 2)])
    optimizer, start = optax.sgd(0.1), jnp.zeros((3, 2))

    def last(alpha, problem=problem, start=start, optimizer=optimizer):
      return inner_steps(problem, optimizer, start, alpha, optimizer.init(start), jnp.zeros(3))[0].sum()

    def by_hand(alpha, problem=problem, weights=start):
      for _ in range(3):
        weights = weights - 0.1 * jax.grad(problem.inner_loss)(weights, alpha, None)
      return weights.sum()

    np.testing.assert_allclose(jax.grad(last)(jnp.asarray(ALPHA)), jax.grad(by_hand)(jnp.asarray(ALPHA)), rtol=1e-12)
    assert np.abs(jax.grad(last)(jnp.asarray(ALPHA))).max() > 0.06  # more than one clip lets through


def test_copies_are_not_kept():
  """A broadcast of alpha is made anew: to keep it would cost memory and save nothing."""

  def program(alpha):
    function = with_invariants(lambda w: jnp.sum(jnp.broadcast_to(jnp.exp(alpha[0, 0]), (1000,)) * w), np.ones(1000))
    return jax.lax.map(function, jnp.ones((2, 1000)))

  (loop,) = [equation for equation in jax.make_jaxpr(program)(ALPHA).eqns if equation.primitive.name == "scan"]
  assert [atom.aval.size for atom in loop.invars[: loop.params["num_consts"]]] == [1]
  np.testing.assert_allclose(program(ALPHA), 1000 * np.exp(ALPHA[0, 0]), rtol=1e-12)


def test_functions_without_invariants_or_with_effects_stay():
  plain = lambda w: jnp.sum(w**2)
  assert with_invariants(plain, jnp.ones(3)) is plain

  def printing(w):
    jax.debug.print("{}", w)
    return jnp.sum(jnp.exp(ALPHA)) + w

  assert with_invariants(printing, 1.0) is printing
