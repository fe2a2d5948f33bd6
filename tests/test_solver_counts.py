"""The solvers count their derivatives, in samples: as many as the papers say, and as many as are computed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bilevel_quadratic import N_TRAIN, N_VALIDATION, quadratic

from ruas_jax.bilevel import SOLVERS, BilevelProblem, Data, make_solver
from ruas_jax.bilevel.solvers.oracle import Oracle
from ruas_jax.bilevel.solvers.sampling import whole

pytestmark = pytest.mark.usefixtures("x64_module")

QUADRATIC = quadratic()
DATA = Data(QUADRATIC.train, QUADRATIC.validation)
BATCH = 4
STEP = {"inner": 0.5, "outer": 0.05}
SERIES = {**STEP, "linear": 0.5, "terms": 6}
MOMENTA = {"inner_momentum": 0.5, "outer_momentum": 0.5}
NAMES = ("inner_gradients", "outer_gradients", "hessian_products", "cross_products")

# Options; then minibatches per step: gradients of the inner and of the outer loss, Hessian and cross products; then the
# evaluations of the inner loss, which are fewer where one evaluation has several derivatives.
PER_STEP = {
  "amigo": ({**STEP, "inner_steps": 3, "linear_steps": 5}, (3, 1, 5, 1), 9),
  "stocbio": ({**SERIES, "inner_steps": 3}, (3, 1, 6, 1), 10),
  "soba": (STEP, (1, 1, 1, 1), 1),
  "fsla": ({**STEP, "momentum": 0.5}, (1, 3, 1, 2), 4),
  "ttsa": ({**SERIES, "truncation": "full"}, (1, 1, 5, 1), 7),
  "saba": (STEP, (1, 1, 1, 1), 1),
  "srba": ({**STEP, "period": 3}, (2, 2, 2, 2), 2),
  "sustain": ({**SERIES, **MOMENTA, "truncation": "full"}, (2, 2, 10, 2), 14),
  "mrbo": ({**SERIES, **MOMENTA}, (2, 2, 12, 2), 16),
  "f2sa": ({**STEP, "inner_steps": 3, "penalty": 2.0}, (8, 4, 0, 0), 8),
  "bome": ({**STEP, "inner_steps": 3, "weights_rate": 0.1}, (5, 1, 0, 0), 5),
  "bda": ({**STEP, "inner_steps": 3}, (3, 4, 6, 6), 6),
}


def second_step(method, problem=QUADRATIC.problem, batch_size=BATCH, **options):
  """The diagnostics after `init` and after the second step."""
  solver = make_solver(method, problem, batch_size=batch_size, **options)
  state = jax.jit(solver.init)(*QUADRATIC.start, DATA, jax.random.key(0))
  step = jax.jit(solver.step)
  return state.diagnostics, step(step(state, DATA), DATA).diagnostics


def counts(diagnostics):
  return tuple(int(diagnostics[name]) for name in NAMES)


@pytest.mark.parametrize("method", PER_STEP)
def test_counts_are_those_of_the_paper_and_of_the_evaluations(method):
  options, expected, evaluations = PER_STEP[method]
  seen = []

  def inner_loss(weights, alpha, batch):
    jax.debug.callback(lambda: seen.append(1))
    return QUADRATIC.problem.inner_loss(weights, alpha, batch)

  problem = QUADRATIC.problem._replace(inner_loss=inner_loss)
  solver = make_solver(method, problem, batch_size=BATCH, **options)
  step = jax.jit(solver.step)
  state = step(jax.jit(solver.init)(*QUADRATIC.start, DATA, jax.random.key(0)), DATA)
  jax.effects_barrier()
  seen.clear()
  state = step(state, DATA)
  jax.effects_barrier()
  assert counts(state.diagnostics) == tuple(BATCH * number for number in expected)
  assert len(seen) == evaluations


def test_every_method_but_nested_is_counted():
  """iaptt's and cg's numbers depend on the values; the estimators of nested do not use the oracle."""
  assert {*PER_STEP, "iaptt", "nested"} == set(SOLVERS)
  _, found = second_step("nested", inner=optax.sgd(0.5), outer=0.05)
  assert not set(NAMES) & set(found)


def test_full_batches_count_all_examples():
  before, found = second_step("soba", batch_size=None, **STEP)
  assert counts(before) == (0, 0, 0, 0)
  assert counts(found) == (N_TRAIN, N_VALIDATION, N_TRAIN, N_TRAIN)


def test_saba_counts_the_pass_that_fills_its_tables():
  before, _ = second_step("saba", **STEP)
  assert counts(before) == (N_TRAIN, N_VALIDATION, N_TRAIN, N_TRAIN)


def test_srba_counts_its_full_passes():
  solver = make_solver("srba", QUADRATIC.problem, batch_size=BATCH, period=2, **STEP)
  state, step = jax.jit(solver.init)(*QUADRATIC.start, DATA, jax.random.key(0)), jax.jit(solver.step)
  found = []
  for _ in range(4):
    state = step(state, DATA)
    found.append(counts(state.diagnostics))
  whole, part = (N_TRAIN, N_VALIDATION, N_TRAIN, N_TRAIN), 4 * (2 * BATCH,)
  assert found == [whole, part, whole, part]


def test_iaptt_counts_the_steps_that_it_differentiates():
  _, found = second_step("iaptt", inner_steps=5, initial=0.1, **STEP)
  length = int(found["length"])
  assert 1 <= length <= 5
  assert counts(found) == (5 * BATCH, BATCH, length * BATCH, length * BATCH)


def test_cg_counts_its_iterations():
  """Three unknowns: three iterations, one product for the first residual, and one for the last."""
  _, found = second_step(
    "amigo", batch_size=None, inner_steps=2, linear_steps=20, linear_solver="cg", tolerance=1e-8, **STEP
  )
  assert counts(found)[2] == 5 * N_TRAIN and bool(found["converged"])


def test_random_series_have_all_lengths():
  solver = make_solver("ttsa", QUADRATIC.problem, batch_size=BATCH, **SERIES)

  def body(state, _):
    state = solver.step(state, DATA)
    return state, state.diagnostics["hessian_products"]

  state = solver.init(*QUADRATIC.start, DATA, jax.random.key(0))
  lengths = np.asarray(jax.lax.scan(body, state, length=600)[1]) // BATCH
  seen = np.bincount(lengths, minlength=6)
  assert len(seen) == 6 and np.all(np.abs(seen - 100) < 5 * np.sqrt(100))


def test_a_loop_past_the_oracle_is_an_error():
  """Its derivatives would not be counted."""
  same = lambda tree: tree
  oracle, sample = Oracle(QUADRATIC.problem, same, same), whole(DATA.train, jax.random.key(0))
  weights, alpha = map(jnp.asarray, QUADRATIC.start)
  jax.lax.fori_loop(0, 2, lambda _, w: oracle.inner_gradient(w, alpha, sample), weights)
  with pytest.raises(jax.errors.UnexpectedTracerError):
    print(oracle.record.counts.inner_gradients + 1)


def test_seeds_and_rates_are_mapped():
  """Over keys and over a traced rate: each has its run."""
  solver = lambda rate: make_solver("soba", QUADRATIC.problem, inner=0.5, outer=rate, batch_size=BATCH)

  def alpha(key, rate):
    state = solver(rate).init(*QUADRATIC.start, DATA, key)
    return solver(rate).step(solver(rate).step(state, DATA), DATA).alpha

  keys, rates = jax.random.split(jax.random.key(0), 2), jnp.array([0.05, 0.1])
  together = jax.jit(jax.vmap(jax.vmap(alpha, (None, 0)), (0, None)))(keys, rates)
  apart = [[alpha(key, rate) for rate in rates] for key in keys]
  np.testing.assert_allclose(together, np.array(apart), rtol=1e-12)
  assert len({float(value) for value in together[..., 0].ravel()}) == 4


def test_a_schedule_begins_at_step_zero():
  rates = []

  def schedule(step):
    return jnp.where(step == 0, 0.0, 0.05)

  solver = make_solver("soba", QUADRATIC.problem, inner=0.5, outer=schedule)
  state, step = solver.init(*QUADRATIC.start, DATA, jax.random.key(0)), jax.jit(solver.step)
  for _ in range(2):
    before, state = state, step(state, DATA)
    rates.append(float(jnp.linalg.norm(state.alpha - before.alpha)))
  assert rates[0] == 0 and rates[1] > 0


def test_the_state_is_a_pytree_of_arrays():
  for method, (options, *_) in PER_STEP.items():
    solver = make_solver(method, BilevelProblem(*QUADRATIC.problem), batch_size=BATCH, **options)
    shapes = jax.eval_shape(solver.init, *QUADRATIC.start, DATA, jax.random.key(0))
    after = jax.eval_shape(solver.step, shapes, DATA)
    assert jax.tree.structure(shapes) == jax.tree.structure(after)
    assert jax.tree.leaves(shapes) == jax.tree.leaves(after), method
