"""Learns the learning rate of each step of training, with `ruas_jax.bilevel` only.

    python examples/learned_schedule.py [--quick]

A small network is trained on handwritten digits for fifty steps from the same start. The outer problem changes the
fifty rates to lower the loss on other digits after the last step. The hypergradient is exact, through all steps.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from ruas_jax import bilevel

STEPS, BATCH, WIDTH = 50, 16, 32
rounds = 3 if "--quick" in sys.argv else 100


def loss(weights, alpha, batch):
  """Cross entropy. Both losses are this one: the rates are in the optimiser."""
  hidden = jnp.tanh(batch["image"] @ weights["first"])
  return optax.softmax_cross_entropy_with_integer_labels(hidden @ weights["second"], batch["label"]).mean()


def accuracy(weights, batch):
  hidden = jnp.tanh(batch["image"] @ weights["first"])
  return float(jnp.mean((hidden @ weights["second"]).argmax(axis=1) == batch["label"]))


images, labels = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(labels))
data = {"image": jnp.asarray(images[order] / 16, jnp.float32), "label": jnp.asarray(labels[order])}
train, validation, test = (
  jax.tree.map(lambda leaf: leaf[part], data)
  for part in (slice(STEPS * BATCH), slice(STEPS * BATCH, 1300), slice(1300, None))
)
batches = jax.tree.map(lambda leaf: leaf.reshape(STEPS, BATCH, *leaf.shape[1:]), train)
keys = jax.random.split(jax.random.key(0))
start = {
  "first": jax.random.normal(keys[0], (64, WIDTH)) / 8,
  "second": jax.random.normal(keys[1], (WIDTH, 10)) / WIDTH**0.5,
}

inner = lambda alpha: optax.sgd(lambda count: jnp.exp(alpha[count]))  # the rate of step `count`
outer = optax.adam(0.03)
estimate = bilevel.make_estimator("unrolled", inner=inner, steps=STEPS)


@jax.jit
def improve(alpha, state):
  out = estimate(bilevel.BilevelProblem(loss, loss), start, alpha, inner(alpha).init(start), batches, validation)
  updates, state = outer.update(out.gradient, state)
  return optax.apply_updates(alpha, updates), state, out.outer_loss, out.weights


alpha = jnp.full(STEPS, jnp.log(0.1))
state = outer.init(alpha)
for number in range(1, rounds + 1):
  alpha, state, value, weights = improve(alpha, state)
  if number == 1 or number % max(1, rounds // 5) == 0:
    print(f"round {number}: validation loss {value:.3f}, test accuracy {accuracy(weights, test):.3f}")
rates = np.exp(np.asarray(alpha)).reshape(5, -1).mean(axis=1)
print("mean rate in each fifth of the training:", " ".join(f"{rate:.2f}" for rate in rates))
