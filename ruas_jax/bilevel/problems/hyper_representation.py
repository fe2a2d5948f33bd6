"""Hyper-representation (Franceschi et al. 2018): alpha is a layer of features, the weights are a classifier on them."""

import jax
import jax.numpy as jnp

from ruas_jax.bilevel.problem import BilevelProblem
from ruas_jax.bilevel.problems.digits import CLASSES, PIXELS, split_digits
from ruas_jax.bilevel.problems.exact import solved_by_newton
from ruas_jax.bilevel.problems.models import accuracy, affine, cross_entropies
from ruas_jax.bilevel.problems.standard import StandardProblem


def hyper_representation(
  key: jax.Array, *, features: int = 8, examples: int = 100, validation: int = 500, penalty: float = 1e-2
) -> StandardProblem:
  """Digits: `tanh` features, `alpha [65, features]`; softmax regression on them, `weights [features + 1, 10]`.

  `measures` is the accuracy on digits that no loss has seen. Needs scikit-learn.

  Args:
    key: key of all that is drawn.
    features: number of features.
    examples: number of training examples.
    validation: number of validation examples.
    penalty: penalty `penalty/2 |w|^2` of the inner loss.
  """
  keys = jax.random.split(key)
  train, held, test = split_digits(keys[0], examples, validation)

  def logits(w, a, batch):
    return affine(w, jnp.tanh(affine(a, batch["image"])))

  def outer_loss(w, a, batch):
    return jnp.mean(cross_entropies(logits(w, a, batch), batch["label"]))

  def inner_loss(w, a, batch):
    return outer_loss(w, a, batch) + 0.5 * penalty * jnp.sum(w**2)

  problem, start = BilevelProblem(inner_loss, outer_loss), jnp.zeros((features + 1, CLASSES))
  return StandardProblem(
    problem,
    train,
    held,
    start,
    0.1 * jax.random.normal(keys[1], (PIXELS + 1, features)),
    **solved_by_newton(problem, train, held, start),
    measures=lambda w, a: {"test_accuracy": accuracy(logits(w, a, test), test["label"])},
  )
