"""Bilevel optimisation over pytrees: problems, inner updates, hypergradient estimators, solvers and standard problems.
This package knows no images and no networks."""

from ruas_jax.bilevel import problems as problems
from ruas_jax.bilevel.constants import split_inexact
from ruas_jax.bilevel.diagnostics import Curvature, Decomposition, compare, decompose, outer_curvature, summarize
from ruas_jax.bilevel.estimators import ESTIMATORS, make_estimator
from ruas_jax.bilevel.inner import inner_step, inner_steps
from ruas_jax.bilevel.losses import map_alpha
from ruas_jax.bilevel.optimizer import init_optimizer, update_parameters
from ruas_jax.bilevel.preconditioner import jacobi_preconditioner
from ruas_jax.bilevel.problem import BilevelProblem, Estimator, HypergradientOut, ProblemError
from ruas_jax.bilevel.solvers.rates import power_schedule
from ruas_jax.bilevel.solvers.registry import SOLVERS, make_solver
from ruas_jax.bilevel.solvers.sampling import Data
from ruas_jax.bilevel.solvers.solve import Solution, SolverError, solve
from ruas_jax.bilevel.solvers.solver import Solver, SolverState

__all__ = [
  "ESTIMATORS",
  "SOLVERS",
  "BilevelProblem",
  "Curvature",
  "Data",
  "Decomposition",
  "Estimator",
  "HypergradientOut",
  "ProblemError",
  "Solution",
  "Solver",
  "SolverError",
  "SolverState",
  "compare",
  "decompose",
  "init_optimizer",
  "inner_step",
  "inner_steps",
  "jacobi_preconditioner",
  "make_estimator",
  "make_solver",
  "map_alpha",
  "outer_curvature",
  "power_schedule",
  "solve",
  "split_inexact",
  "summarize",
  "update_parameters",
]
