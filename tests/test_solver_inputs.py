"""What users give to the solvers: losses with keys, metrics and collections, constraints, samplers, frozen parts, mixed
types."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bilevel_quadratic import quadratic

from ruas_jax.bilevel import (
  BilevelProblem,
  Data,
  SolverError,
  make_estimator,
  make_solver,
  map_alpha,
  power_schedule,
  problems,
  solve,
)

pytestmark = pytest.mark.usefixtures("x64_module")

QUADRATIC = quadratic()
PROBLEM, START = QUADRATIC.problem, QUADRATIC.start
EXAMPLES = (QUADRATIC.train, QUADRATIC.validation)
STEP = {"inner": 0.5, "outer": 0.25 / QUADRATIC.outer_smoothness}
AMIGO = {"inner": 0.5, "inner_steps": 3, "linear_steps": 3, "outer": 0.5 / QUADRATIC.outer_smoothness}


def run(problem=PROBLEM, weights=START[0], alpha=START[1], train=EXAMPLES[0], validation=EXAMPLES[1], **options):
  options = {"method": "soba", "steps": 3, **(STEP if "method" not in options else {}), **options}
  return solve(problem, weights, alpha, train, validation, **options)


# Keys, metrics, collections.


def test_keys_differ_from_step_to_step_and_with_the_seed():
  def inner_loss(weights, alpha, batch, key):
    return PROBLEM.inner_loss(weights, alpha, batch) + weights @ jax.random.normal(key, (3,))

  problem = PROBLEM._replace(inner_loss=inner_loss)
  first, again, other = (run(problem, seed=seed, trace=lambda w, a: {"w": w}) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first.trace["w"], again.trace["w"])
  assert not np.allclose(first.weights, other.weights)
  # Without noise, the same gradient would come twice.
  still = run(problem, inner=1e-9, outer=1e-9, trace=lambda w, a: {"w": w})
  moves = np.diff(still.trace["w"], axis=0)
  assert not np.allclose(moves[0], moves[1], rtol=0.1, atol=0)


def test_metrics_join_the_diagnostics():
  problem = BilevelProblem(
    lambda w, a, batch: (PROBLEM.inner_loss(w, a, batch), {"size": jnp.sum(w**2)}),
    lambda w, a, batch: (PROBLEM.outer_loss(w, a, batch), {"first": a[0]}),
  )
  found, plain = run(problem), run()
  np.testing.assert_array_equal(found.alpha, plain.alpha)
  assert found.trace["train_size"][0] == pytest.approx(np.sum(START[0] ** 2))
  assert found.trace["validation_first"][0] == START[1][0]


def mean_of_weights(decay=0.5):
  """An inner loss whose collection is a running mean of the weights, as batch statistics are; the outer loss reads
  it."""

  def inner_loss(weights, alpha, batch, collection):
    new = {"mean": decay * collection["mean"] + (1 - decay) * weights, "count": collection["count"] + 1}
    return PROBLEM.inner_loss(weights, alpha, batch), {"collection": new}

  def outer_loss(weights, alpha, batch, collection):
    return PROBLEM.outer_loss(weights, alpha, batch) + alpha @ collection["mean"][:2]

  return BilevelProblem(inner_loss, outer_loss), {"mean": np.zeros(3), "count": 0}


@pytest.mark.parametrize("method", ["amigo", "nested"])
def test_collections_are_carried_through_the_inner_steps(method):
  """Each inner step replaces the collection; the outer loss sees the last one; no derivative goes through it."""
  problem, collection = mean_of_weights()
  options = {
    "amigo": AMIGO,
    "nested": {"inner": optax.sgd(0.5), "inner_steps": 3, "outer": AMIGO["outer"]},
  }[method]
  found = run(problem, method=method, steps=1, collection=collection, **options)
  plain = run(method=method, steps=1, **options)
  weights, mean = START[0], np.zeros(3)
  terms = QUADRATIC.terms
  for _ in range(3):
    mean = 0.5 * mean + 0.5 * weights
    weights = weights - 0.5 * (terms["hessian"] @ weights - terms["pull"] @ START[1] - terms["shift"])
  np.testing.assert_allclose(found.state.collection["mean"], mean, rtol=1e-12)
  assert int(found.state.collection["count"]) == 3
  np.testing.assert_allclose(found.alpha, plain.alpha - options["outer"] * mean[:2], rtol=1e-10)


def test_every_method_carries_a_collection():
  """Once for each inner step, and never for a second derivative or a point of the past."""
  problem, collection = mean_of_weights()
  series = {**STEP, "linear": 0.5, "terms": 4}
  momenta = {"inner_momentum": 0.5, "outer_momentum": 0.5}
  per_step = {
    "stocbio": ({**series, "inner_steps": 2}, 2),
    "soba": (STEP, 1),
    "fsla": ({**STEP, "momentum": 0.5}, 1),
    "ttsa": (series, 1),
    "saba": (STEP, 1),
    "srba": ({**STEP, "period": 2}, 1),
    "mrbo": ({**series, **momenta}, 1),
    "f2sa": ({**STEP, "inner_steps": 2, "penalty": 2.0}, 2),
    "iaptt": ({**STEP, "inner_steps": 2, "initial": 0.1}, 2),
    "bda": ({**STEP, "inner_steps": 2}, 2),
  }
  for method, (options, number) in per_step.items():
    solver, data = make_solver(method, problem, **options), Data(*EXAMPLES)
    state = jax.jit(solver.init)(*START, data, jax.random.key(0), collection)
    state = jax.jit(solver.step)(state, data)
    assert int(state.collection["count"]) == number, method


@pytest.mark.parametrize("name", ["unrolled", "mixed_mode", "forward", "finite_difference"])
def test_the_inner_rate_is_an_outer_variable(name):
  """One step: `d/dr f(w − r ∂_w g) = −∂_w f · ∂_w g`; the other terms are as without it."""
  problem = BilevelProblem(
    lambda w, a, batch: PROBLEM.inner_loss(w, a["a"], batch), lambda w, a, batch: PROBLEM.outer_loss(w, a["a"], batch)
  )
  estimator = make_estimator(name, inner=lambda alpha: optax.sgd(alpha["rate"]), steps=1)
  alpha = {"a": jnp.asarray(START[1]), "rate": jnp.asarray(0.3), "seed": jnp.asarray(1)}
  batches = jax.tree.map(lambda leaf: leaf[None], EXAMPLES[0])
  state = optax.sgd(0.3).init(START[0])
  out = estimator(problem, jnp.asarray(START[0]), alpha, state, batches, EXAMPLES[1])
  terms = QUADRATIC.terms
  gradient = terms["hessian"] @ START[0] - terms["pull"] @ START[1] - terms["shift"]
  reached = START[0] - 0.3 * gradient
  of_outer = reached - terms["target"]
  assert float(out.gradient["rate"]) == pytest.approx(-of_outer @ gradient, rel=1e-9)
  expected = START[1] + terms["tilt"] + 0.3 * terms["pull"].T @ of_outer
  np.testing.assert_allclose(out.gradient["a"], expected, rtol=1e-9)


def test_nested_learns_the_inner_rate():
  problem = BilevelProblem(
    lambda w, a, batch: PROBLEM.inner_loss(w, a["a"], batch), lambda w, a, batch: PROBLEM.outer_loss(w, a["a"], batch)
  )
  alpha = {"a": START[1], "log_rate": np.log(0.05)}
  inner = lambda alpha: optax.sgd(jnp.exp(alpha["log_rate"]), momentum=0.1)
  found = run(problem, alpha=alpha, method="nested", inner=inner, inner_steps=4, outer=0.05, steps=1)

  def reached(log_rate):
    """The outer loss after the four steps, in numpy."""
    terms, weights, trace = QUADRATIC.terms, START[0], 0.0
    for _ in range(4):
      trace = terms["hessian"] @ weights - terms["pull"] @ START[1] - terms["shift"] + 0.1 * trace
      weights = weights - np.exp(log_rate) * trace
    return 0.5 * np.sum((weights - terms["target"]) ** 2)

  slope = (reached(np.log(0.05) + 1e-5) - reached(np.log(0.05) - 1e-5)) / 2e-5
  assert found.alpha["log_rate"] - np.log(0.05) == pytest.approx(-0.05 * slope, rel=1e-6)


def test_estimators_that_do_not_differentiate_the_optimiser_refuse_a_learned_one():
  for name in ("cg", "first_order"):
    with pytest.raises(ValueError, match=f"hypergradient {name} does not differentiate the inner optimiser"):
      make_solver("nested", PROBLEM, estimator=name, inner=lambda alpha: optax.sgd(alpha), outer=0.1)


# Constraints, samplers, frozen parts, dtypes.


def outer_gradient(alpha):
  """The hypergradient at the inner minimum."""
  terms = QUADRATIC.terms
  weights = np.linalg.solve(terms["hessian"], terms["pull"] @ alpha + terms["shift"])
  slope = np.linalg.solve(terms["hessian"], terms["pull"])
  return alpha + terms["tilt"] + slope.T @ (weights - terms["target"])


@pytest.mark.parametrize(
  "projection",
  [
    optax.projections.projection_simplex,
    lambda alpha: optax.projections.projection_box(alpha, -0.1, 0.1),
    lambda alpha: optax.projections.projection_l2_ball(alpha, 0.2),
  ],
  ids=["simplex", "box", "ball"],
)
def test_projections_lead_to_the_constrained_solution(projection):
  found = run(method="amigo", steps=300, projection=projection, **AMIGO)
  free = found.alpha - 0.1 * outer_gradient(found.alpha)
  assert np.abs(free - found.alpha).max() > 1e-3  # the constraint is active
  np.testing.assert_allclose(projection(free), found.alpha, atol=1e-8)


def test_a_map_of_alpha():
  inside = 4 * np.abs(QUADRATIC.alpha).max()
  problem = map_alpha(PROBLEM, lambda u: inside * jnp.tanh(u / inside))
  found = run(problem, method="amigo", steps=500, **AMIGO)
  np.testing.assert_allclose(inside * np.tanh(found.alpha / inside), QUADRATIC.alpha, atol=1e-8)
  keyed = BilevelProblem(lambda w, a, batch, key: jnp.sum(a), PROBLEM.outer_loss)
  assert make_solver("soba", map_alpha(keyed, jnp.tanh), **STEP)


def test_shuffled_minibatches_are_of_the_solvers():
  """Six steps read each of the six training blocks once."""
  seen = lambda order: run(
    PROBLEM._replace(inner_loss=lambda w, a, batch: (PROBLEM.inner_loss(w, a, batch), {"id": batch["id"].sum()})),
    train=EXAMPLES[0] | {"id": jnp.arange(12.0)},
    batch_size=2,
    steps=6,
    order=order,
  ).trace["train_id"]
  assert sorted(seen("shuffled").tolist()) == [1 + 4 * block for block in range(6)]
  assert len(set(seen("random").tolist())) < 6


def test_a_key_that_the_user_has_fixed_stays():
  def inner_loss(weights, alpha, batch, key):
    return PROBLEM.inner_loss(weights, alpha, batch) + weights @ jax.random.normal(key, (3,))

  fixed = jax.random.key(5)
  partial = run(PROBLEM._replace(inner_loss=functools.partial(inner_loss, key=fixed)))
  closed = run(PROBLEM._replace(inner_loss=lambda w, a, batch: inner_loss(w, a, batch, fixed)))
  np.testing.assert_array_equal(partial.weights, closed.weights)


def test_a_short_run_that_diverges_is_seen_and_a_start_at_the_minimum_is_none():
  with pytest.raises(SolverError, match="diverges: the inner gradient's norm has grown"):
    run(inner=2.0, steps=60)
  quadratic = problems.quadratic(jax.random.key(0))
  start = quadratic.minimum(quadratic.alpha), quadratic.alpha, quadratic.train, quadratic.validation
  for every in (1, 100):
    solve(quadratic.problem, *start, method="soba", inner=0.5, outer=0.05, steps=30, every=every)


def test_a_sampler_in_the_place_of_blocks():
  """Draws with replacement, of any size; its mean is the data's, and so is the solution."""

  def sample(examples, key):
    indices = jax.random.randint(key, (5,), 0, jax.tree.leaves(examples)[0].shape[0])
    return jax.tree.map(lambda leaf: leaf[indices], examples)

  options = {"inner": 0.5, "outer": power_schedule(STEP["outer"], 1.0, 50.0)}
  found = run(method="soba", steps=3000, sample=sample, **options)
  assert found.trace["inner_gradients"][0] == 5
  assert np.abs(found.alpha - QUADRATIC.alpha).max() < 0.05


def test_frozen_leaves_stay():
  """The others reach the solution of the problem in which the frozen ones are constants."""

  def split(loss):
    return lambda w, a, batch: loss(jnp.concatenate([w["free"], w["frozen"]]), a["a"], batch)

  weights = {"free": START[0][:2], "frozen": START[0][2:]}
  found = run(
    BilevelProblem(*map(split, PROBLEM)),
    weights=weights,
    alpha={"a": START[1], "unused": np.ones(2)},
    method="amigo",
    steps=500,
    frozen_weights={"free": False, "frozen": True},
    frozen_alpha={"a": False, "unused": True},
    **AMIGO,
  )
  np.testing.assert_array_equal(found.weights["frozen"], weights["frozen"])
  np.testing.assert_array_equal(found.alpha["unused"], np.ones(2))
  terms, a = QUADRATIC.terms, np.asarray(found.alpha["a"])
  whole = np.concatenate([found.weights["free"], found.weights["frozen"]])
  inner = terms["hessian"] @ whole - terms["pull"] @ a - terms["shift"]
  assert np.abs(inner[:2]).max() < 1e-8
  slope = np.linalg.solve(terms["hessian"][:2, :2], terms["pull"][:2])
  assert np.abs(a + terms["tilt"] + slope.T @ (whole - terms["target"])[:2]).max() < 1e-8


def test_leaves_keep_their_dtypes_and_constants_stay():
  weights = {"wide": jnp.zeros(2, jnp.float64), "half": jnp.zeros(1, jnp.bfloat16), "count": jnp.asarray(3)}
  alpha = {"single": jnp.zeros(2, jnp.float32), "key": jax.random.key(5)}

  def joined(loss):
    def of_parts(w, a, batch):
      assert w["count"].dtype == jnp.int64
      noise = 1e-3 * jax.random.normal(a["key"], ())
      return loss(jnp.concatenate([w["wide"], w["half"].astype(jnp.float64)]) + noise, a["single"], batch)

    return of_parts

  problem = BilevelProblem(*map(joined, PROBLEM))
  for method, options in {
    "soba": STEP,
    "amigo": {**AMIGO, "linear_solver": "cg", "tolerance": 1e-2},
    "bda": {**STEP, "inner_steps": 2},
    "nested": {"inner": optax.adam(0.1), "inner_steps": 2, "outer": optax.adam(0.1)},
  }.items():
    found = run(problem, weights, alpha, method=method, steps=3, **options)
    assert jax.tree.map(lambda leaf: leaf.dtype, (found.weights, found.alpha)) == jax.tree.map(
      lambda leaf: leaf.dtype, (weights, alpha)
    )
    assert int(found.weights["count"]) == 3 and found.alpha["key"] == alpha["key"]
    assert np.abs(np.asarray(found.weights["half"], np.float32)).max() > 0, method


def test_outer_may_be_any_optimiser():
  found = run(method="amigo", steps=600, **{**AMIGO, "outer": optax.adam(power_schedule(0.1, 1.0, 20.0))})
  assert np.abs(found.alpha - QUADRATIC.alpha).max() < 1e-3


def test_callback_and_continuation():
  """The callback ends a run; the solver's step goes on from the state to the same point."""
  seen = []
  found = run(steps=50, every=10, callback=lambda state: seen.append(int(state.step)) or int(state.step) >= 30)
  assert seen == [10, 20, 30] and len(found.trace["finite"]) == 30
  step, state = jax.jit(make_solver("soba", PROBLEM, **STEP).step), found.state
  for _ in range(20):
    state = step(state, Data(*EXAMPLES))
  np.testing.assert_allclose(state.alpha, run(steps=50).alpha, rtol=1e-12)


def test_the_import_loads_no_other_room():
  program = """
import sys, ruas_jax.bilevel
ours = [name for name in sys.modules if name.startswith("ruas_jax.") and not name.startswith("ruas_jax.bilevel")]
assert not ours, ours
heavy = [name for name in ("flax", "tensorflow", "matplotlib", "orbax", "PIL") if name in sys.modules]
assert not heavy, heavy
"""
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
