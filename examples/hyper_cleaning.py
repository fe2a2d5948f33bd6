"""Finds the training digits with wrong labels, with `ruas_jax.bilevel` only.

    python examples/hyper_cleaning.py [--quick]

40 % of the training labels are wrong, and nobody knows which. The inner problem fits a classifier, with a weight in
0..1 for each training example. The outer problem changes the weights to improve the fit on a few clean digits.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from ruas_jax import bilevel

TRAIN, VALIDATION, WRONG = 500, 500, 0.4
steps = 20 if "--quick" in sys.argv else 2000


def losses(weights, batch):
  """`[N]`, the cross entropy of each example."""
  logits = batch["image"] @ weights["matrix"] + weights["offset"][None]
  return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])


def inner_loss(weights, alpha, batch):
  """`batch["index"]` says which of the examples these are."""
  penalty = 5e-4 * (jnp.sum(weights["matrix"] ** 2) + jnp.sum(weights["offset"] ** 2))
  return jnp.mean(jax.nn.sigmoid(alpha[batch["index"]]) * losses(weights, batch)) + penalty


def outer_loss(weights, alpha, batch):
  return jnp.mean(losses(weights, batch))


def accuracy(weights, batch):
  logits = batch["image"] @ weights["matrix"] + weights["offset"][None]
  return float(jnp.mean(logits.argmax(axis=1) == batch["label"]))


rng = np.random.default_rng(0)
images, labels = load_digits(return_X_y=True)
order = rng.permutation(len(labels))
images, labels = jnp.asarray(images[order] / 16, jnp.float32), labels[order]
wrong = np.arange(TRAIN) < WRONG * TRAIN
given = np.where(wrong, (labels[:TRAIN] + rng.integers(1, 10, TRAIN)) % 10, labels[:TRAIN])
train = {"image": images[:TRAIN], "label": jnp.asarray(given), "index": jnp.arange(TRAIN)}
parts = slice(TRAIN, TRAIN + VALIDATION), slice(TRAIN + VALIDATION, None)
validation, test = ({"image": images[part], "label": jnp.asarray(labels[part])} for part in parts)

start = {"matrix": jnp.zeros((64, 10)), "offset": jnp.zeros(10)}
found = bilevel.solve(
  bilevel.BilevelProblem(inner_loss, outer_loss),
  start,
  jnp.zeros(TRAIN),
  train,
  validation,
  method="amigo",
  inner=1.0,
  inner_steps=5,
  linear_steps=5,
  outer=optax.adam(0.03),
  steps=steps,
)
trust = jax.nn.sigmoid(found.alpha)
print(f"accuracy on {len(test['label'])} other digits: {accuracy(found.weights, test):.3f}")
print(f"mean weight of the right labels: {np.mean(trust[~wrong]):.2f}, of the wrong ones: {np.mean(trust[wrong]):.2f}")
