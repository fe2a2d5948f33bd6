"""The solvers reach the solutions that are known in closed form, their steps are those of the papers, and minibatches
converge at the theoretical rates. Step sizes come from the problems' constants."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import paper_updates
import pytest
from bilevel_quadratic import quadratic
from jax import lax

from ruas_jax.bilevel import SOLVERS, BilevelProblem, Data, make_solver, power_schedule, solve
from ruas_jax.bilevel.solvers.single_loop import recursive_momentum

pytestmark = pytest.mark.usefixtures("x64_module")

QUADRATIC = quadratic()
REACHABLE = quadratic(reachable=True)
SMOOTHNESS, CONVEXITY = QUADRATIC.smoothness, QUADRATIC.convexity
OUTER_SMOOTHNESS, OUTER_CONVEXITY = QUADRATIC.outer_smoothness, QUADRATIC.outer_convexity
RATE = 2 / (SMOOTHNESS + CONVEXITY)  # an inner step divides the error by 3
SCALE = 1 / SMOOTHNESS  # of Neumann's series: a term divides the error by 2
OUTER = 1 / OUTER_SMOOTHNESS
PENALTY = 3e7  # F2SA errs by its inverse, and by the rounding of a difference of gradients, this times 1e-16


def penalised_rate(penalty):
  """The best rate for `f + λ g`, whose curvatures are between `1 + λ μ` and `1 + λ L`."""
  return 2 / (2 + penalty * (SMOOTHNESS + CONVEXITY))


# With single steps of the weights, alpha must be slower than they are.
SLOW = {"inner": SCALE, "outer": OUTER / 4}
SERIES = {"linear": SCALE, "terms": 32}
MOMENTA = {"inner_momentum": 0.5, "outer_momentum": 0.5}
EXACT = {
  "nested": {"inner": optax.sgd(RATE), "inner_steps": 24, "outer": OUTER},
  "amigo": {"inner": RATE, "inner_steps": 2, "linear_steps": 2, "outer": OUTER / 2},
  "stocbio": {"inner": RATE, "inner_steps": 2, **SERIES, "outer": OUTER / 2},
  "soba": SLOW,
  "fsla": {**SLOW, "momentum": 0.5},
  "ttsa": {**SLOW, **SERIES, "truncation": "full"},
  "saba": SLOW,
  "srba": {**SLOW, "period": 4},
  "sustain": {**SLOW, **SERIES, **MOMENTA, "truncation": "full"},
  "mrbo": {**SLOW, **SERIES, **MOMENTA},
  "f2sa": {
    "inner": RATE,
    "inner_steps": 8,
    "penalty": PENALTY,
    "penalised": penalised_rate(PENALTY),
    "outer": OUTER / 2,
  },
  "bome": {"inner": RATE, "inner_steps": 24, "weights_rate": 0.1, "outer": 0.1},
  "iaptt": {"inner": RATE, "inner_steps": 24, "initial": 0.1, "outer": OUTER},
  "bda": {"inner": RATE, "inner_steps": 40, "share": lambda k: 0.5 ** (k + 1), "outer": OUTER},
}
"""Options with which a method reaches the solution on full batches. Bome does so where `∂_w f` is zero at the solution;
elsewhere its distance is proportional to its step size."""


def solved_by(method):
  return REACHABLE if method == "bome" else QUADRATIC


def distance(found, known):
  return float(np.abs(np.asarray(found) - known).max())


def run(method, problem=QUADRATIC, steps=1000, **options):
  start, data = problem.start, (problem.train, problem.validation)
  return solve(problem.problem, *start, *data, method=method, steps=steps, every=steps, **options)


@functools.cache
def exact_errors(method):
  known = solved_by(method)
  found = run(method, known, **EXACT[method])
  return distance(found.alpha, known.alpha), distance(found.weights, known.weights)


@pytest.mark.parametrize("method", EXACT)
def test_full_batches_reach_the_solution(method):
  assert max(exact_errors(method)) < 1e-8


def test_every_method_is_tested():
  assert list(EXACT) == list(SOLVERS) == list(paper_updates.UPDATES)


# The updates.

STEPS = 5
PENALTIES = power_schedule(2.0, -1 / 3)
FALLING = power_schedule(0.1, 0.5)
WRITTEN = EXACT | {
  "soba": {**SLOW, "momentum": 0.5},
  "ttsa": {**EXACT["ttsa"], "terms": 3},
  "stocbio": {**EXACT["stocbio"], "terms": 3},
  "sustain": {**EXACT["sustain"], "inner_momentum": 0.3, "terms": 3},
  "mrbo": {**EXACT["mrbo"], "inner_momentum": 0.3, "terms": 3},
  "f2sa": {
    "inner": RATE,
    "inner_steps": 2,
    "penalty": PENALTIES,
    "penalised": lambda step: penalised_rate(PENALTIES(step)),
    "outer": OUTER,
  },
  "bome": {"inner": RATE, "inner_steps": 2, "weights_rate": FALLING, "outer": FALLING},
  "iaptt": {**EXACT["iaptt"], "inner_steps": 3},
  "bda": {**EXACT["bda"], "inner_steps": 3},
  "nested": {"inner": optax.sgd(RATE), "inner_steps": 3, "outer": OUTER},
}


def errors_of_updates(method):
  """Distance of the first weights and alphas from those of the paper's update."""
  options = WRITTEN[method]
  found = run(method, steps=STEPS, trace=lambda w, a: {"w": w, "a": a}, **options)
  if method == "nested":
    options = {**options, "rate": RATE}
    del options["inner"]
  weights, alphas = paper_updates.trajectory(method, QUADRATIC, STEPS, options)
  return distance(found.trace["a"], alphas), distance(found.trace["w"], weights)


@pytest.mark.parametrize("method", WRITTEN)
def test_updates_are_those_of_the_paper(method):
  assert max(errors_of_updates(method)) < 1e-12


def test_recursive_momentum_by_hand():
  """On full batches `average` and `before` are equal, so that the updates above do not show it."""
  now, average, before = ({"w": jnp.array(value)} for value in (3.0, 5.0, 7.0))
  later = recursive_momentum(now, average, before, 0.25, jnp.array(1))
  assert float(later["w"]) == 3 + 0.75 * (5 - 7)
  assert float(recursive_momentum(now, average, before, 0.25, jnp.array(0))["w"]) == 3


# Penalties: their distance from the solution.


def test_f2sa_reaches_the_solution_of_the_penalised_problem():
  for penalty in (10.0, 100.0):
    options = EXACT["f2sa"] | {"penalty": penalty, "penalised": penalised_rate(penalty)}
    found = run("f2sa", **options)
    assert distance(found.alpha, QUADRATIC.penalised(penalty)) < 1e-10
  far, near = (distance(QUADRATIC.penalised(penalty), QUADRATIC.alpha) for penalty in (1e3, 1e4))
  assert np.log10(far / near) == pytest.approx(1, abs=0.01)


def test_bomes_distance_is_proportional_to_its_step_size():
  data = Data(QUADRATIC.train, QUADRATIC.validation)

  @jax.jit
  @jax.vmap  # over a traced rate
  def error(rate):
    solver = make_solver("bome", QUADRATIC.problem, inner=RATE, inner_steps=24, weights_rate=rate, outer=rate)
    state = solver.init(*QUADRATIC.start, data, jax.random.key(0))
    state = lax.fori_loop(0, 4000, lambda _, state: solver.step(state, data), state)
    return jnp.linalg.norm(state.alpha - QUADRATIC.alpha)

  far, near = error(jnp.array([0.02, 0.005]))
  assert np.log(far / near) / np.log(4) == pytest.approx(1, abs=0.25)


# Ridge regression: one penalty, of which the solution is found by Newton's method in numpy.


def ridge():
  """`|X w − y|² / 2N + exp(a) |w|² / 2` inside, `|X w − y|² / 2N` on other data outside; a is one number."""
  rng = np.random.default_rng(1)
  x, x_held, truth = rng.normal(size=(20, 4)), rng.normal(size=(20, 4)), rng.normal(size=4)
  y, y_held = x @ truth + rng.normal(size=20), x_held @ truth + rng.normal(size=20)
  hessian, right, count = x.T @ x / 20, x.T @ y / 20, 20

  def minimum(a):
    """w, its derivative, and its second derivative in a."""
    inverse = np.linalg.inv(hessian + np.exp(a) * np.eye(4))
    w = inverse @ right
    first = -np.exp(a) * inverse @ w
    return w, first, first - 2 * np.exp(a) * inverse @ first

  a = -2.0
  for _ in range(50):
    w, first, second = minimum(a)
    error = x_held.T @ (x_held @ w - y_held) / count
    curvature = first @ x_held.T @ x_held @ first / count + second @ error
    a -= (first @ error) / curvature
  assert curvature > 0 and abs(first @ error) < 1e-14

  def loss(weights, batch):
    return 0.5 * jnp.mean((batch["x"] @ weights["w"] - batch["y"]) ** 2)

  problem = BilevelProblem(
    lambda w, a, batch: loss(w, batch) + 0.5 * jnp.exp(a["log"]) * jnp.sum(w["w"] ** 2),
    lambda w, a, batch: loss(w, batch),
  )
  low, *_, high = np.linalg.eigvalsh(hessian) + np.exp(a)
  return problem, ({"x": x, "y": y}, {"x": x_held, "y": y_held}), a, minimum(a)[0], (low, high, curvature)


def errors_of_ridge(method):
  problem, data, alpha, weights, (low, high, curvature) = ridge()
  rate, ratio = 2 / (low + high), (high - low) / (high + low)
  enough = int(np.ceil(np.log(1e-13) / np.log(ratio)))  # inner steps that solve the inner problem
  outer = 0.5 / curvature
  series = {"linear": rate, "terms": enough}
  slow = {"inner": rate, "outer": outer / 4}
  options = {
    "nested": {"inner": optax.sgd(rate), "inner_steps": enough, "outer": outer},
    "amigo": {"inner": rate, "inner_steps": 4, "linear_steps": 4, "outer": outer},
    "stocbio": {"inner": rate, "inner_steps": 4, **series, "outer": outer},
    "soba": slow,
    "fsla": {**slow, "momentum": 0.5},
    "ttsa": {**slow, **series, "truncation": "full"},
    "saba": slow,
    "srba": {**slow, "period": 4},
    "sustain": {**slow, **series, **MOMENTA, "truncation": "full"},
    "mrbo": {**slow, **series, **MOMENTA},
    "iaptt": {"inner": rate, "inner_steps": enough, "initial": 0.1 * rate, "outer": outer},
    "bda": {"inner": rate, "inner_steps": 2 * enough, "share": lambda k: 0.5 ** (k + 1), "outer": outer},
    "f2sa": {
      "inner": rate,
      "inner_steps": 8,
      "penalty": PENALTY,
      "penalised": rate / (1 + PENALTY),
      "outer": outer / 2,
    },
  }[method]
  start = {"w": np.zeros(4)}, {"log": np.array(alpha + 0.5)}
  found = solve(problem, *start, *data, method=method, steps=1000, every=1000, **options)
  return distance(found.alpha["log"], alpha), distance(found.weights["w"], weights)


@pytest.mark.parametrize("method", [name for name in SOLVERS if name != "bome"])
def test_ridge_regression(method):
  assert max(errors_of_ridge(method)) < 1e-8


# Minibatches.

BATCH = 4
VARIANCE_REDUCED = {
  "saba": {"inner": SCALE / 2, "outer": OUTER / 16},
  "srba": {"inner": SCALE / 2, "outer": OUTER / 16, "period": 4},
}


def errors_of_minibatches(method):
  found = run(method, steps=4000, batch_size=BATCH, **VARIANCE_REDUCED[method])
  return distance(found.alpha, QUADRATIC.alpha), distance(found.weights, QUADRATIC.weights)


@pytest.mark.parametrize("method", VARIANCE_REDUCED)
def test_reduced_variance_reaches_the_solution_on_minibatches(method):
  assert max(errors_of_minibatches(method)) < 1e-8


# Outer rate c / (t + offset) with c twice the inverse of the convexity: the mean square error then falls as the rate.
INVERSE = power_schedule(OUTER / 4, 1.0, 2 / OUTER_CONVEXITY * 4 * OUTER_SMOOTHNESS)
THIRD = power_schedule(1.0, 1 / 3, 20.0)
TWO_THIRDS = power_schedule(0.08, 2 / 3, 20.0)
SHORT = {"linear": SCALE, "terms": 10}
RECURSIVE = {
  **SHORT,
  "inner": lambda step: SCALE * THIRD(step),
  "outer": lambda step: OUTER / 2 * THIRD(step),
  "inner_momentum": TWO_THIRDS,
  "outer_momentum": TWO_THIRDS,
}
FIXED_PENALTY = 4.0
# Options, and the schedule that the mean square error follows; the band is two-sided.
STOCHASTIC = {
  "amigo": ({"inner": SCALE, "inner_steps": 2, "linear_steps": 2, "outer": INVERSE}, INVERSE),
  "stocbio": ({"inner": SCALE, "inner_steps": 2, **SHORT, "outer": INVERSE}, INVERSE),
  "soba": ({"inner": SCALE, "outer": INVERSE}, INVERSE),
  "fsla": ({"inner": SCALE, "outer": INVERSE, "momentum": 0.5}, INVERSE),
  "ttsa": ({"inner": power_schedule(SCALE, 2 / 3, 20.0), **SHORT, "outer": INVERSE}, INVERSE),
  "sustain": (RECURSIVE, TWO_THIRDS),
  "mrbo": (RECURSIVE, TWO_THIRDS),
  "f2sa": (
    {
      "inner": SCALE,
      "inner_steps": 2,
      "penalty": FIXED_PENALTY,
      "penalised": penalised_rate(FIXED_PENALTY) / 2,
      "outer": INVERSE,
    },
    INVERSE,
  ),
}
SEEDS, LENGTH = 32, 4000


def rate_of_minibatches(method):
  """The exponent with which the mean square error of alpha follows the schedule, and its standard error over seeds."""
  options, schedule = STOCHASTIC[method]
  known = QUADRATIC.penalised(FIXED_PENALTY) if method == "f2sa" else QUADRATIC.alpha
  solver = make_solver(method, QUADRATIC.problem, batch_size=BATCH, **options)
  data = Data(QUADRATIC.train, QUADRATIC.validation)

  def squares(key):
    def body(state, _):
      state = solver.step(state, data)
      return state, jnp.sum((state.alpha - known) ** 2)

    return lax.scan(body, solver.init(*QUADRATIC.start, data, key), length=LENGTH)[1]

  errors = np.asarray(jax.jit(jax.vmap(squares))(jax.random.split(jax.random.key(0), SEEDS)))
  windows = [slice(LENGTH // 10, LENGTH // 8), slice(LENGTH * 4 // 5, LENGTH)]
  early, late = (errors[:, window].mean(axis=1) for window in windows)
  fall = np.log(np.divide(*(np.mean(schedule(np.arange(LENGTH)[window])) for window in windows)))
  relative = np.hypot(*(part.std(ddof=1) / part.mean() / np.sqrt(SEEDS) for part in (early, late)))
  return np.log(early.mean() / late.mean()) / fall, relative / fall


@pytest.mark.parametrize("method", STOCHASTIC)
def test_minibatches_converge_at_the_theoretical_rate(method):
  exponent, error = rate_of_minibatches(method)
  assert error < 0.2
  assert abs(exponent - 1) < 3 * error
