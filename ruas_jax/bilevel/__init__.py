"""Bilevel optimisation over pytrees: problems, inner updates and hypergradient estimators. Knows no images and no
networks."""

from ruas_jax.bilevel.estimators import ESTIMATORS, make_estimator
from ruas_jax.bilevel.inner import inner_step, inner_steps
from ruas_jax.bilevel.problem import BilevelProblem, Estimator, HypergradientOut

__all__ = [
  "ESTIMATORS",
  "BilevelProblem",
  "Estimator",
  "HypergradientOut",
  "inner_step",
  "inner_steps",
  "make_estimator",
]
