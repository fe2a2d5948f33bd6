"""Mistakes of users of the solvers: each is one clear line. What is accepted beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_solver_inputs import AMIGO, EXAMPLES, PROBLEM, START, STEP, mean_of_weights, run

from ruas_jax.bilevel import Data, ProblemError, SolverError, make_solver

pytestmark = pytest.mark.usefixtures("x64_module")


def without(loss, hessian):
  """The quadratic with another Hessian."""
  return lambda w, a, batch: loss(w, a, batch | {"hessian": hessian[None]})


INDEFINITE = PROBLEM._replace(inner_loss=without(PROBLEM.inner_loss, np.diag([1.0, 1.0, -0.5])))
MISTAKES = {
  "unknown method": (dict(method="sobo"), ValueError, "method 'sobo' is not one of amigo, bda, bome, f2sa"),
  "unknown option": (dict(method="soba", **STEP, rate=1), TypeError, "method soba has no option 'rate'; it has inner"),
  "missing option": (dict(method="amigo", inner=0.5, outer=0.1), TypeError, "method amigo needs the option 'inner_ste"),
  "no outer": (dict(method="soba", inner=0.5), TypeError, "method soba needs the option 'outer'"),
  "negative rate": (dict(method="soba", inner=-0.5, outer=0.1), ValueError, "method soba: inner must be positive, not"),
  "no steps": (dict(steps=0), ValueError, "steps must be an integer of at least 1, not 0"),
  "inner steps": (
    dict(method="amigo", **AMIGO | {"inner_steps": 0}),
    ValueError,
    "inner_steps must be an integer",
  ),
  "word": (
    dict(method="ttsa", **STEP, linear=1.0, terms=2, truncation="half"),
    ValueError,
    "must be full or random",
  ),
  "batch size": (dict(batch_size=5), ProblemError, "batch_size 5 does not divide the 12 examples of train"),
  "order": (dict(batch_size=4, order="sorted"), ValueError, "order must be random or shuffled, not 'sorted'"),
  "batch size above all": (dict(batch_size=24), ProblemError, "batch_size 24 is larger than the 12 examples of train"),
  "batch size of zero": (dict(batch_size=0), ValueError, "batch_size must be an integer of at least 1, not 0"),
  "batch size of True": (dict(batch_size=True), ValueError, "batch_size must be an integer of at least 1, not True"),
  "batch size without data": (
    dict(train=None, batch_size=4),
    ProblemError,
    "batch_size is 4, but train has no arrays to take minibatches of",
  ),
  "no examples": (
    dict(train=jax.tree.map(lambda leaf: leaf[:0], EXAMPLES[0])),
    ProblemError,
    "train has no examples: the leading axes of its leaves have length 0",
  ),
  "trace with the name of a diagnostic": (
    dict(trace=lambda w, a: {"outer_loss": a[0]}),
    ValueError,
    "trace returns 'outer_loss', which is the name of a diagnostic; choose another",
  ),
  "table and sampler": (
    dict(method="saba", **STEP, sample=lambda examples, key: examples),
    ValueError,
    "sample draws minibatches that are not blocks of the examples: method saba needs batch_size",
  ),
  "lengths": (
    dict(train=EXAMPLES[0] | {"shift": np.zeros((11, 3))}),
    ProblemError,
    r"train\['shift'\] has 11 examples, but train\['hessian'\] has 12",
  ),
  "scalar example": (
    dict(validation=EXAMPLES[1] | {"tilt": np.zeros(())}),
    ProblemError,
    r"validation\['tilt'\] is a scalar; it needs a leading axis",
  ),
  "vector loss": (
    dict(problem=PROBLEM._replace(inner_loss=lambda w, a, batch: w)),
    ProblemError,
    r"BilevelProblem.inner_loss must return one real number .* not float64\[3\]",
  ),
  "vector outer loss": (
    dict(problem=PROBLEM._replace(outer_loss=lambda w, a, batch: (w, {}))),
    ProblemError,
    r"BilevelProblem.outer_loss must return one real number .* not float64\[3\]",
  ),
  "integer weights": (dict(weights=np.arange(3)), ProblemError, "weights has no floating leaf"),
  "all frozen": (dict(frozen_weights=True), ProblemError, "every floating leaf of weights is frozen"),
  "frozen tree": (dict(frozen_alpha={"a": True}), ProblemError, "frozen_alpha must have the structure of alpha"),
  "projection": (
    dict(projection=lambda alpha: alpha[:1]),
    ProblemError,
    r"the projection of alpha has float64\[1\] at its only leaf, not float64\[2\]",
  ),
  "no collection": (
    dict(problem=mean_of_weights()[0]),
    ProblemError,
    "BilevelProblem.inner_loss has a parameter `collection`: give its first value",
  ),
  "collection for nobody": (dict(collection={"mean": np.zeros(3)}), ProblemError, "`collection` is given, but"),
  "another collection": (
    dict(
      problem=mean_of_weights()[0]._replace(
        inner_loss=lambda w, a, batch, collection: (PROBLEM.inner_loss(w, a, batch), {"collection": {"mean": w[:2]}})
      ),
      collection={"mean": np.zeros(3)},
    ),
    ProblemError,
    r"the collection that BilevelProblem.inner_loss returns has float64\[2\] at \['mean'\], not float64\[3\]",
  ),
  "collection forgotten": (
    dict(
      problem=mean_of_weights()[0]._replace(inner_loss=lambda w, a, batch, collection: jnp.sum(w)),
      collection={"mean": np.zeros(3)},
    ),
    ProblemError,
    r"so it must return \(loss, \{'collection': the new one, ...\}\)",
  ),
  "estimator": (
    dict(method="nested", estimator="cgs", inner=optax.sgd(0.1), outer=0.1),
    ValueError,
    "hypergradient 'cgs'",
  ),
  "indefinite Hessian": (
    dict(problem=INDEFINITE, method="soba", **STEP, steps=30),
    SolverError,
    r"method soba: the inner loss has a negative curvature \(-.*\) in step \d+, so its Hessian is indefinite",
  ),
  "indefinite Hessian, cg": (
    dict(problem=INDEFINITE, method="amigo", **AMIGO, linear_solver="cg"),
    SolverError,
    "method amigo: the inner loss has a negative curvature",
  ),
  "indefinite Hessian, estimator": (
    dict(problem=INDEFINITE, method="nested", estimator="cg", inner=optax.sgd(0.5), outer=0.1),
    SolverError,
    "method nested: the inner loss has a negative curvature in step 1",
  ),
  "diverging to infinity": (
    dict(method="f2sa", **STEP | {"inner": 5.0}, penalty=2.0, steps=1000, every=1000),
    SolverError,
    r"method f2sa diverged: (weights|alpha) is not finite after step \d+; lower the step sizes `inner`",
  ),
  "diverging": (
    dict(method="bome", **STEP | {"inner": 1.03}, inner_steps=1, weights_rate=1.5, steps=100, every=20),
    SolverError,
    r"method bome diverges: the inner gradient's norm has grown from .* by step \d+",
  ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_clear_line(name):
  options, kind, message = MISTAKES[name]
  with pytest.raises(kind, match=message) as caught:
    run(**options)
  assert "\n" not in str(caught.value)


def test_counts_may_be_integers_of_numpy():
  found = run(steps=np.int64(3), batch_size=np.int32(4), every=np.int64(2))
  assert found.trace["finite"].shape == (3,)


def test_an_unconverged_linear_system_is_said():
  with pytest.warns(UserWarning, match="method amigo: the linear system had not converged in the last step"):
    run(method="amigo", steps=1, **AMIGO | {"linear_steps": 1}, linear_solver="cg")


def test_strict_may_be_switched_off():
  found = run(problem=INDEFINITE, method="soba", steps=30, strict=False, **STEP)
  assert found.trace["indefinite"].any() and found.trace["curvature"].min() < 0


def test_saba_refuses_other_data_than_its_tables():
  solver, data = make_solver("saba", PROBLEM, batch_size=4, **STEP), Data(*EXAMPLES)
  state = solver.init(*START, data, jax.random.key(0))
  shorter = data._replace(train=jax.tree.map(lambda leaf: leaf[:8], data.train))
  with pytest.raises(ProblemError, match="train has 2 blocks, but the state was made for 3: call `init` anew"):
    solver.step(state, shorter)
