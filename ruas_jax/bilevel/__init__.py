"""Bilevel optimisation over pytrees: problems, inner updates and hypergradient estimators. This package knows no images
and no networks."""

from ruas_jax.bilevel import problems
from ruas_jax.bilevel.constants import split_inexact
from ruas_jax.bilevel.diagnostics import Curvature, Decomposition, compare, decompose, outer_curvature, summarize
from ruas_jax.bilevel.estimators import ESTIMATORS, make_estimator
from ruas_jax.bilevel.inner import inner_step, inner_steps
from ruas_jax.bilevel.optimizer import init_optimizer, update_parameters
from ruas_jax.bilevel.problem import BilevelProblem, Estimator, HypergradientOut, ProblemError

__all__ = [
  "ESTIMATORS",
  "BilevelProblem",
  "Curvature",
  "Decomposition",
  "Estimator",
  "HypergradientOut",
  "ProblemError",
  "compare",
  "decompose",
  "init_optimizer",
  "inner_step",
  "inner_steps",
  "make_estimator",
  "outer_curvature",
  "problems",
  "split_inexact",
  "summarize",
  "update_parameters",
]
