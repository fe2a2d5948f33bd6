"""The conformance table: every bar is met, and every claim has its rows."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance_table import about, cell_rows, reference_rows

from ruas_jax.bilevel import ESTIMATORS
from ruas_jax.bilevel.implicit import cg
from ruas_jax.bilevel.testing.conformance import CHECKS, check_exact, check_implicit, conformance
from ruas_jax.bilevel.testing.testbed import HORIZONS, RATE, darts_toy, logistic_regression, quadratic
from ruas_jax.bilevel.unrolled import unrolled

EXACT = ["unrolled", "mixed_mode", "forward", "truncated"]


def assert_met(rows):
  assert rows
  missed = "\n".join(str(row) for row in rows if not row.met)
  assert not missed, f"not met:\n{missed}"


@pytest.mark.parametrize("name", CHECKS)
def test_every_bar_is_met(name):
  assert_met([row for row in reference_rows() if row.estimator == name])


def test_every_bar_is_met_on_a_smooth_cell():
  assert_met(cell_rows())
  assert [(row.estimator, row.against) for row in cell_rows()] == [
    ("unrolled", "central difference"),
    ("mixed_mode", "unrolled"),
    ("forward", "unrolled"),
    ("finite_difference", "unrolled"),
  ]


def test_every_estimator_has_a_check():
  assert list(CHECKS) == list(ESTIMATORS)


def test_no_row_twice():
  names = [about(row) for row in reference_rows()]
  assert len(set(names)) == len(names)


def test_the_readme_has_their_number():
  readme = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
  assert f"{len(reference_rows())} checks of ten" in readme and len(ESTIMATORS) == 10
  exact = {row.bar for name in EXACT for row in rows_of(name, against="closed form", measure="relative error")}
  assert exact == {1e-12} and "exact estimators within 1e-12 of closed forms" in readme


def rows_of(estimator, **fields):
  rows = [row for row in reference_rows() if row.estimator == estimator]
  return [row for row in rows if all(getattr(row, field) == value for field, value in fields.items())]


@pytest.mark.parametrize("name", EXACT)
def test_what_the_exact_ones_are_held_against(name):
  for inner in ("sgd", "momentum", "adam"):
    for steps in HORIZONS:
      options = {"last": steps} if name == "truncated" else {}
      (row,) = rows_of(name, problem="quadratic", inner=inner, steps=steps, options=options)
      assert (row.against, row.measure, row.bar) == ("closed form", "relative error", 1e-12)
  (row,) = rows_of(name, against="alternating fixed point")
  assert row.problem == "DARTS toy" and row.bar <= 1e-10
  against = "central difference" if name == "unrolled" else "unrolled"
  assert {row.against for row in rows_of(name, problem="logistic regression")} == {against}


def test_what_the_others_are_held_against():
  assert {row.bar for name in ("cg", "nystrom") for row in rows_of(name)} == {1e-10}
  assert {row.problem for row in rows_of("nystrom")} == {"quadratic", "logistic regression"}
  assert {row.inner for row in rows_of("cg", problem="quadratic")} == {"sgd", "sgd at rate zero"}
  assert [row.options["terms"] for row in rows_of("neumann", problem="quadratic", measure="error / bound")] == [
    1,
    4,
    16,
  ]
  assert {row.bar for row in rows_of("neumann", measure="error / bound")} == {1.0}
  (slope,) = rows_of("finite_difference", measure="|error slope - 2|")
  assert slope.problem == "logistic regression" and slope.bar == 0.1
  assert len(rows_of("finite_difference", against="DARTS eq. 8")) == 4
  assert {row.bar for row in rows_of("evolution")} == {3.0}


def test_closed_forms_tell_the_estimates_apart():
  """No claim is met by another estimator's value: every term of the hypergradient shows."""
  closed_form = quadratic().closed_form
  for inner in ("sgd", "momentum", "adam", "momentum under way", "clipped sgd"):
    values = [closed_form.unrolled(inner, 5, last) for last in (5, 4, 2, 1)] + [closed_form.unrolled(inner, 0, 0)]
    for position, value in enumerate(values):
      for other in values[position + 1 :]:
        assert np.linalg.norm(value - other) > 1e-6 * np.linalg.norm(value), inner


def test_darts_toy_by_hand():
  """One step of plain SGD on `(w - a)^2` from (a, w) = (1.7, -0.4), then `L_val = aw - 2a + 1`."""
  a, w = 1.7, -0.4
  ahead = w - RATE * 2 * (w - a)
  toy = darts_toy()
  assert toy.closed_form.unrolled("sgd", 1, 1) == pytest.approx(ahead - 2 + a * 2 * RATE, rel=1e-14)
  assert toy.closed_form.unrolled("sgd", 0, 0) == pytest.approx(w - 2, rel=1e-14)
  assert toy.fixed_points["unrolled"] == 2 / (1 + 2 * RATE)


def test_own_estimators(monkeypatch):
  """As the module's docstring shows it, one that is exact and one that is not."""
  narrow = [problem._replace(runs={"sgd": (1,)}) for problem in (quadratic(), logistic_regression())]
  for name, own in (("mine", unrolled), ("wrong", ESTIMATORS["first_order"])):
    monkeypatch.setitem(ESTIMATORS, name, own)
    monkeypatch.setitem(CHECKS, name, check_exact())
  assert [row.met for row in conformance(narrow, ["mine", "wrong"])] == [True, False, True, False]
  monkeypatch.setitem(ESTIMATORS, "solved", cg)
  monkeypatch.setitem(CHECKS, "solved", check_implicit(damping=0.1))  # which it is not told of
  assert not any(row.met for row in conformance([quadratic()], ["solved"]))
  with pytest.raises(ValueError, match="no check for the estimator 'yours'"):
    conformance(estimators=["yours"])


def test_it_is_float64_whatever_the_caller_computes_in():
  """On problems made in float32 too; nothing of it is left behind, and its rows are plain values."""
  with jax.enable_x64(False):
    narrow = quadratic()._replace(runs={"momentum": (1,)}, closed_form=None)
    narrow = narrow._replace(alpha=jax.tree.map(jnp.asarray, narrow.alpha))
    (row,) = conformance([narrow], ["mixed_mode"])
    assert row.met and jnp.zeros(1).dtype == jnp.float32
  assert json.loads(json.dumps(row._asdict())) == row._asdict()
  json.dumps([row._asdict() for row in reference_rows()])
