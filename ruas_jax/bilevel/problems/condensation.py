"""Dataset condensation (Wang et al. 2018): a few images, so made that a classifier trained on them is good on all."""

import jax
import jax.numpy as jnp

from ruas_jax.bilevel.problem import BilevelProblem
from ruas_jax.bilevel.problems.digits import CLASSES, PIXELS, split_digits
from ruas_jax.bilevel.problems.exact import solved_by_newton
from ruas_jax.bilevel.problems.models import accuracy, affine, cross_entropies
from ruas_jax.bilevel.problems.standard import StandardProblem


def condensation(
  key: jax.Array, *, images: int = 1, validation: int = 1000, penalty: float = 1e-2, spread: float = 0.1
) -> StandardProblem:
  """Alpha is `[10 * images, 64]`, the images that softmax regression is trained on. The outer loss is that of the real
  digits.

  `train` has only the labels of the images and their positions in alpha. `measures` is the accuracy on digits that no
  loss has seen. Needs scikit-learn.

  Args:
    key: key of all that is drawn.
    images: number of images for each digit.
    validation: number of real digits.
    penalty: penalty `penalty/2 |w|^2` of the inner loss.
    spread: deviation of the first images from grey.
  """
  keys = jax.random.split(key)
  real, test = split_digits(keys[0], validation)
  count = CLASSES * images
  train = {"label": jnp.arange(count, dtype=jnp.int32) % CLASSES, "index": jnp.arange(count)}

  def inner_loss(w, a, batch):
    losses = cross_entropies(affine(w, a[batch["index"]]), batch["label"])
    return jnp.mean(losses) + 0.5 * penalty * jnp.sum(w**2)

  def outer_loss(w, a, batch):
    return jnp.mean(cross_entropies(affine(w, batch["image"]), batch["label"]))

  problem, start = BilevelProblem(inner_loss, outer_loss), jnp.zeros((PIXELS + 1, CLASSES))
  return StandardProblem(
    problem,
    train,
    real,
    start,
    0.5 + spread * jax.random.normal(keys[1], (count, PIXELS)),
    **solved_by_newton(problem, train, real, start),
    measures=lambda w, a: {"test_accuracy": accuracy(affine(w, test["image"]), test["label"])},
  )
