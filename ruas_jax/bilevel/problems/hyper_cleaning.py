"""Data hyper-cleaning (Franceschi et al. 2017): one weight per training example; some labels are wrong."""

import jax
import jax.numpy as jnp

from ruas_jax.bilevel.problem import BilevelProblem
from ruas_jax.bilevel.problems.digits import CLASSES, PIXELS, split_digits
from ruas_jax.bilevel.problems.exact import solved_by_newton
from ruas_jax.bilevel.problems.models import accuracy, affine, cross_entropies
from ruas_jax.bilevel.problems.standard import StandardProblem


def hyper_cleaning(
  key: jax.Array, *, wrong: float = 0.4, examples: int = 1000, validation: int = 500, penalty: float = 1e-3
) -> StandardProblem:
  """Softmax regression on digits: inner loss mean of `sigmoid(a_i) loss_i` and `penalty/2 |w|^2`; outer loss the mean
  on clean data.

  `train` has `index`, the example's position in alpha, and `wrong`, whether its label is wrong, which no loss reads.
  `measures` are the accuracy on the other digits, and `auc`: the chance that a clean example has a larger weight than a
  wrong one. Needs scikit-learn.

  Args:
    key: key of all that is drawn.
    wrong: share of the training labels that are replaced by another digit.
    examples: number of training examples, and of numbers in alpha.
    validation: number of validation examples.
    penalty: penalty of the weights.
  """
  keys = jax.random.split(key, 3)
  train, clean, test = split_digits(keys[0], examples, validation)
  is_wrong = jax.random.permutation(keys[1], jnp.arange(examples) < round(wrong * examples))
  other = (train["label"] + jax.random.randint(keys[2], (examples,), 1, CLASSES, dtype=jnp.int32)) % CLASSES
  labels = jnp.where(is_wrong, other, train["label"])
  train = train | {"label": labels, "index": jnp.arange(examples), "wrong": is_wrong}

  def losses(w, batch):
    return cross_entropies(affine(w, batch["image"]), batch["label"])

  def inner_loss(w, a, batch):
    return jnp.mean(jax.nn.sigmoid(a[batch["index"]]) * losses(w, batch)) + 0.5 * penalty * jnp.sum(w**2)

  def outer_loss(w, a, batch):
    return jnp.mean(losses(w, batch))

  def measures(w, a):
    higher = (a[:, None] > a[None]) + 0.5 * (a[:, None] == a[None])
    pairs = ~is_wrong[:, None] & is_wrong[None]
    return {
      "test_accuracy": accuracy(affine(w, test["image"]), test["label"]),
      "auc": jnp.sum(higher * pairs) / jnp.sum(pairs),
    }

  problem, start = BilevelProblem(inner_loss, outer_loss), jnp.zeros((PIXELS + 1, CLASSES))
  return StandardProblem(
    problem,
    train,
    clean,
    start,
    jnp.zeros(examples),
    **solved_by_newton(problem, train, clean, start),
    measures=measures,
  )
