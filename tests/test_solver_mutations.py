"""Known bugs of bilevel solvers, put in on purpose: each makes a test of `test_solvers` fail."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest
import test_solvers as sound

from ruas_jax.bilevel import SOLVERS, Data, SolverError, make_solver
from ruas_jax.bilevel.solvers import linear, sampling, solver, variance_reduced
from ruas_jax.bilevel.solvers.oracle import Oracle
from ruas_jax.bilevel.solvers.solver import Method

pytestmark = pytest.mark.usefixtures("x64_module")

SOUND = dict(SOLVERS)
WITH_SERIES = ("stocbio", "ttsa", "sustain", "mrbo")
FIRST_ORDER = ("f2sa", "bome")


def updates_differ(method):
  """The first steps are not those of the paper, on full batches."""
  return not max(sound.errors_of_updates(method)) < 1e-12


def misses_the_solution(method):
  return not max(sound.exact_errors.__wrapped__(method)) < 1e-8


def misses_the_solution_on_minibatches(method):
  return not max(sound.errors_of_minibatches(method)) < 1e-8


def loses_its_rate(method):
  exponent, error = sound.rate_of_minibatches(method)
  return not abs(exponent - 1) < 3 * error


def repeats_its_minibatches(method):
  """Every step of minibatches sees the same blocks as the one before."""
  seen = []

  def inner_loss(weights, alpha, batch):
    # In another thread, which may not compute in float64.
    jax.debug.callback(lambda first: seen.append(round(float(first), 4)), batch["shift"][0, 0], ordered=True)
    return sound.QUADRATIC.problem.inner_loss(weights, alpha, batch)

  problem = sound.QUADRATIC.problem._replace(inner_loss=inner_loss)
  options = sound.WRITTEN[method] | ({"period": 100} if method == "srba" else {})
  data = Data(sound.QUADRATIC.train, sound.QUADRATIC.validation)
  broken = make_solver(method, problem, batch_size=sound.BATCH, **options)
  state, step = broken.init(*sound.QUADRATIC.start, data, jax.random.key(0)), jax.jit(broken.step)
  blocks = set()
  for count in range(8):
    seen.clear()
    state = step(state, data)
    jax.effects_barrier()
    if count:  # the first step of srba is a pass over all examples
      blocks.add(tuple(seen[:3]))  # iaptt's later ones depend on the values
  return len(blocks) == 1


# The bugs. Each is a function of monkeypatch and of the method's name.


def negative_cross_product(patch, method):
  directional = Oracle._directional

  def negative(self, *arguments):
    gradients, (image, cross), collection = directional(self, *arguments)
    return gradients, (image, optax.tree.scale(-1, cross)), collection

  patch.setattr(Oracle, "_directional", negative)


def negative_gradient_of_alpha(patch, method):
  gradients = Oracle.inner_gradients

  def negative(self, *arguments, **options):
    of_weights, of_alpha = gradients(self, *arguments, **options)
    return of_weights, optax.tree.scale(-1, of_alpha)

  patch.setattr(Oracle, "inner_gradients", negative)


def ascending_alpha(patch, method):
  update = solver.update_parameters

  def ascend(optimizer, gradient, *arguments, **options):
    return update(optimizer, optax.tree.scale(-1, gradient), *arguments, **options)

  patch.setattr(solver, "update_parameters", ascend)


def replace_options(**replaced):
  """The method is made with other options than those that are asked for."""

  def bug(patch, method):
    @functools.wraps(SOUND[method])
    def broken(**options):
      changed = {name: value(options[name]) if callable(value) else value for name, value in replaced.items()}
      return SOUND[method](**options | changed)

    patch.setitem(SOLVERS, method, broken)

  return bug


def no_scale(patch, method):
  """The Neumann series without its factor."""
  patch.setattr(linear, "add_scaled", lambda tree, factor, direction: optax.tree.add_scale(tree, -1.0, direction))


def stale_minibatches(patch, method):
  """The draws do not know the step."""
  patch.setattr(solver, "Draws", lambda sampler, data, key, turn: sampling.Draws(sampler, data, key, 0 * turn))


def every_step_from(change):
  """Before every step, `change(point, first point, first memory)`."""

  def bug(patch, method):
    @functools.wraps(SOUND[method])
    def broken(**options):
      made = SOUND[method](**options)

      def step(oracle, point, draws):
        weights, alpha = (jnp.asarray(part) for part in sound.QUADRATIC.start)
        start = point._replace(weights=weights, alpha=alpha, memory=None)
        memory = made.init(oracle, start, draws)
        return made.step(oracle, change(point, start, memory), draws)

      return Method(made.init, step, made.blocks)

    patch.setitem(SOLVERS, method, broken)

  return bug


forgotten_memory = every_step_from(lambda point, start, memory: point._replace(memory=memory))
forgotten_weights = every_step_from(lambda point, start, memory: point._replace(weights=start.weights))


def other_samples_at_the_point_before(patch, method):
  """Of the two points of a recursive momentum, the second has other samples in its Neumann series."""
  evaluate, calls = linear.neumann_hypergradient, []

  def elsewhere(oracle, weights, alpha, series, *arguments):
    calls.append(1)
    factors = series.factors
    other = factors._replace(key=jax.random.fold_in(factors.key, len(calls)))
    return evaluate(oracle, weights, alpha, series._replace(factors=other), *arguments)

  patch.setattr(variance_reduced, "neumann_hypergradient", elsewhere)


def table_of_another_block(patch, method):
  corrected = variance_reduced.Table.corrected
  patch.setattr(variance_reduced.Table, "corrected", lambda self, now, block: corrected(self, now, block * 0))


class Mutation(NamedTuple):
  bug: Callable
  seen_by: Callable


MUTATIONS = {
  "wrong sign": {
    **dict.fromkeys(
      [name for name in SOLVERS if name not in ("nested", *FIRST_ORDER)],
      Mutation(negative_cross_product, misses_the_solution),
    ),
    **dict.fromkeys(FIRST_ORDER, Mutation(negative_gradient_of_alpha, misses_the_solution)),
    "nested": Mutation(ascending_alpha, misses_the_solution),
  },
  "inner rate missing": {
    **dict.fromkeys(SOLVERS, Mutation(replace_options(inner=1.0), misses_the_solution)),
    "nested": Mutation(replace_options(inner=lambda _: optax.sgd(1.0)), misses_the_solution),
    "bome": Mutation(replace_options(inner=1.0), updates_differ),  # its solution on `REACHABLE` has no inner gradient
  },
  "scale of the series missing": dict.fromkeys(WITH_SERIES, Mutation(no_scale, misses_the_solution)),
  "stale minibatches": dict.fromkeys(SOLVERS, Mutation(stale_minibatches, repeats_its_minibatches)),
  "forgotten memory": {
    **dict.fromkeys(
      ("amigo", "soba", "fsla", "saba", "srba", "sustain", "mrbo", "f2sa", "iaptt"),
      Mutation(forgotten_memory, updates_differ),
    ),
    "amigo": Mutation(forgotten_memory, misses_the_solution),
    "soba": Mutation(forgotten_memory, misses_the_solution),
  },
  "forgotten weights": {
    **dict.fromkeys(("nested", "bome"), Mutation(forgotten_weights, updates_differ)),
    **dict.fromkeys(("amigo", "stocbio", "soba", "ttsa"), Mutation(forgotten_weights, misses_the_solution)),
  },
  "a warm start that the paper does not have": {"bda": Mutation(replace_options(warm_start=True), updates_differ)},
  "penalty one step late": {
    "f2sa": Mutation(replace_options(penalty=lambda rate: lambda step: rate(step + 1)), updates_differ)
  },
  "another control of the penalty": {"bome": Mutation(replace_options(control=1.0), updates_differ)},
  "share one step late": {"bda": Mutation(replace_options(share=lambda of: lambda k: of(k + 1)), updates_differ)},
  "other samples at the point before": {"mrbo": Mutation(other_samples_at_the_point_before, loses_its_rate)},
  "no pass over all examples": {
    "srba": Mutation(replace_options(period=10**6), misses_the_solution_on_minibatches),
  },
  "the table of another block": {"saba": Mutation(table_of_another_block, misses_the_solution_on_minibatches)},
}

CASES = [(name, method) for name, mutations in MUTATIONS.items() for method in mutations]


@pytest.mark.parametrize("name, method", CASES)
def test_the_bug_is_seen(name, method, monkeypatch):
  mutation = MUTATIONS[name][method]
  mutation.bug(monkeypatch, method)
  try:
    assert mutation.seen_by(method)
  except SolverError as error:  # seen by `solve`
    assert "diverge" in str(error)


@pytest.mark.parametrize("method", SOLVERS)
def test_sound_minibatches_differ_from_step_to_step(method):
  """The measurements of the other bugs pass in `test_solvers`, without a bug."""
  assert not repeats_its_minibatches(method)


def test_the_wrapping_of_a_bug_is_sound(monkeypatch):
  for bug in (replace_options(), every_step_from(lambda point, start, memory: point)):
    with monkeypatch.context() as patch:
      bug(patch, "soba")
      assert not misses_the_solution("soba")


def test_every_method_has_bugs():
  for method in SOLVERS:
    assert {"wrong sign", "inner rate missing", "stale minibatches"} <= {
      name for name, mutations in MUTATIONS.items() if method in mutations
    }
