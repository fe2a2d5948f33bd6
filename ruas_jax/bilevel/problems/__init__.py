"""Standard bilevel problems, each made by a function of a key: losses, data, a start, and the exact hypergradient where
there is one."""

from ruas_jax.bilevel.problems.condensation import condensation
from ruas_jax.bilevel.problems.few_shot import few_shot
from ruas_jax.bilevel.problems.hyper_cleaning import hyper_cleaning
from ruas_jax.bilevel.problems.hyper_representation import hyper_representation
from ruas_jax.bilevel.problems.learned_schedule import learned_schedule
from ruas_jax.bilevel.problems.quadratic import quadratic
from ruas_jax.bilevel.problems.random_quadratic import random_quadratic
from ruas_jax.bilevel.problems.regression import logistic, ridge
from ruas_jax.bilevel.problems.standard import StandardProblem

PROBLEMS = {
  "quadratic": quadratic,
  "random_quadratic": random_quadratic,
  "ridge": ridge,
  "logistic": logistic,
  "hyper_cleaning": hyper_cleaning,
  "condensation": condensation,
  "hyper_representation": hyper_representation,
  "learned_schedule": learned_schedule,
  "few_shot": few_shot,
}

__all__ = [
  "PROBLEMS",
  "StandardProblem",
  "condensation",
  "few_shot",
  "hyper_cleaning",
  "hyper_representation",
  "learned_schedule",
  "logistic",
  "quadratic",
  "random_quadratic",
  "ridge",
]
