"""The benchmark of bilevel solvers covers all of them, and its problems in PyTorch are ours."""

import pathlib
import re

import jax
import numpy as np
import pytest

from benchmarks.bilevel.cases import LARGEST, SMALL, make_case
from benchmarks.bilevel.gallery import _DRAW
from benchmarks.bilevel.methods import oracle_calls, solver_options
from ruas_jax import bilevel
from ruas_jax.bilevel.problems import PROBLEMS

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "bilevel_problems.md").read_text()


@pytest.mark.parametrize("name", bilevel.SOLVERS)
def test_every_solver_has_options_and_counts(name):
  case = make_case("ridge")
  data = bilevel.Data(case.problem.train, case.problem.validation)
  solver = bilevel.make_solver(name, case.problem.problem, batch_size=8, **solver_options(name, 0.1, 0.1, period=8))
  state = solver.init(case.problem.weights, case.problem.alpha, data, jax.random.key(0))
  calls = jax.eval_shape(lambda state: oracle_calls(name, solver.step(state, data).diagnostics, 8), state)
  assert calls.shape == ()


def test_every_problem_is_in_the_benchmark_and_the_gallery():
  assert set(_DRAW) == set(PROBLEMS)
  assert set(SMALL) == set(PROBLEMS) - {"learned_schedule"}  # its rates are those of one pass in order


def test_the_comparison_names_what_exists():
  known = {*bilevel.SOLVERS, *bilevel.ESTIMATORS, "bilevel"}
  rows = re.findall(r"^\|[^|]*\|[^|]*\|([^|]*)\|$", PAGE.split("row by row")[1], re.MULTILINE)
  named = {name for row in rows for name in re.findall(r"`([a-z0-9_]+)`", row)}
  assert len(rows) > 40 and len(named) > 20
  assert named <= known
  assert set(bilevel.ESTIMATORS) <= named


@pytest.mark.parametrize("name", [*SMALL, LARGEST])
def test_torch_has_the_same_losses(name):
  pytest.importorskip("torch", reason="needs the extra `bench`")
  from benchmarks.bilevel.torch_losses import in_torch

  case = make_case(name)
  problem = case.problem
  theirs = in_torch(case)
  shift = lambda tree: jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(0), leaf.shape), tree)
  weights, alpha = shift(problem.weights), shift(problem.alpha)
  import torch

  tensors = [[torch.from_numpy(np.array(leaf)) for leaf in jax.tree.leaves(tree)] for tree in (weights, alpha)]
  for loss, data, other in zip(
    problem.problem, (problem.train, problem.validation), (theirs.inner, theirs.outer), strict=True
  ):
    np.testing.assert_allclose(float(other(*tensors)), float(loss(weights, alpha, data)), rtol=1e-4)
