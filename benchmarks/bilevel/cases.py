"""The problems of the benchmark with their sizes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ruas_jax.bilevel.problems import PROBLEMS, StandardProblem

_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
  "quadratic": ("quadratic", {}),
  "random_quadratic": ("random_quadratic", {"weights": 20, "alpha": 20, "examples": 256}),
  "ridge": ("ridge", {"examples": 64}),
  "logistic": ("logistic", {"examples": 128}),
  "hyper_cleaning": ("hyper_cleaning", {"examples": 256, "validation": 256, "penalty": 1e-2}),
  "condensation": ("condensation", {"images": 4, "validation": 240, "penalty": 1e-2}),
  "hyper_representation": ("hyper_representation", {"examples": 128, "validation": 256, "penalty": 1e-2}),
  "few_shot": ("few_shot", {"tasks": 24, "penalty": 1.0}),
  "large hyper_representation": (
    "hyper_representation",
    {"features": 512, "examples": 800, "validation": 800, "penalty": 0.3},
  ),
}
LARGEST = "large hyper_representation"
SMALL = tuple(name for name in _OPTIONS if name != LARGEST)


class Case(NamedTuple):
  """Attributes:
  name: name of the case.
  kind: name in `PROBLEMS`.
  options: options of the problem.
  problem: the problem.
  """

  name: str
  kind: str
  options: dict[str, Any]
  problem: StandardProblem

  @property
  def examples(self) -> int:
    """Number of examples of the inner loss."""
    return len(jax.tree.leaves(self.problem.train)[0])


def make_case(name: str) -> Case:
  """The case of this name."""
  kind, options = _OPTIONS[name]
  return Case(name, kind, options, PROBLEMS[kind](jax.random.key(0), **options))


def smoothness(problem: StandardProblem) -> float:
  """Largest eigenvalue of the inner loss's Hessian at the start, by twenty power iterations."""
  flat, unravel = ravel_pytree(problem.weights)
  gradient = jax.grad(lambda flat: problem.problem.inner_loss(unravel(flat), problem.alpha, problem.train))

  @jax.jit
  def largest(vector):
    def iterate(_, vector):
      image = jax.jvp(gradient, (flat,), (vector,))[1]
      return image / jnp.linalg.norm(image)

    vector = jax.lax.fori_loop(0, 20, iterate, vector)
    return jnp.vdot(vector, jax.jvp(gradient, (flat,), (vector,))[1])

  return float(largest(jax.random.normal(jax.random.key(1), flat.shape)))
