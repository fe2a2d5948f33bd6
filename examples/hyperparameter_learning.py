"""Learns the regularisation of each feature of a logistic regression, with `ruas_jax.bilevel` only.

    python examples/hyperparameter_learning.py [--quick]

There are twenty features, and the last fifteen carry no information. The inner problem fits the weights with one
penalty for each feature. The outer problem changes the penalties to improve the fit on validation data. The
hypergradient is the implicit one, by conjugate gradients.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ruas_jax import bilevel

FEATURES, INFORMATIVE = 20, 5
steps = 5 if "--quick" in sys.argv else 200


def make_data(count, rng):
  """Features, and labels that depend on the first five features and on noise."""
  x = rng.normal(size=(count, FEATURES))
  logits = 2 * x[:, :INFORMATIVE].sum(axis=1)
  return {"x": jnp.float32(x), "y": jnp.float32(rng.random(count) < 1 / (1 + np.exp(-logits)))}


def cross_entropy(weights, batch):
  return optax.sigmoid_binary_cross_entropy(batch["x"] @ weights, batch["y"]).mean()


def inner_loss(weights, alpha, batch):
  return cross_entropy(weights, batch) + jnp.sum(jax.nn.sigmoid(alpha) * weights**2) / 2  # penalties in (0, 1)


def outer_loss(weights, alpha, batch):
  return cross_entropy(weights, batch)


rng = np.random.default_rng(0)
train, validation, test = (make_data(count, rng) for count in (60, 200, 2000))
problem = bilevel.BilevelProblem(inner_loss, outer_loss)
inner, outer = optax.sgd(0.5), optax.adam(0.1)
fit_steps = 10
estimate = bilevel.make_estimator("cg", inner=inner, steps=fit_steps, iterations=FEATURES, damping=1e-3)
batches = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (fit_steps, *leaf.shape)), train)


@jax.jit
def step(weights, alpha, inner_state, outer_state):
  """Ten inner steps from the current weights, then one step of alpha."""
  out = estimate(problem, weights, alpha, inner_state, batches, validation)
  updates, outer_state = outer.update(out.gradient, outer_state)
  return out.weights, optax.apply_updates(alpha, updates), out.inner_state, outer_state, out.outer_loss


weights, alpha = jnp.zeros(FEATURES), jnp.full(FEATURES, -3.0)
inner_state, outer_state = inner.init(weights), outer.init(alpha)
for number in range(1, steps + 1):
  weights, alpha, inner_state, outer_state, loss = step(weights, alpha, inner_state, outer_state)
  if number == 1 or number % max(1, steps // 5) == 0:
    print(f"step {number}: validation loss {loss:.3f}, test loss {cross_entropy(weights, test):.3f}")
penalties = np.asarray(jax.nn.sigmoid(alpha))
print(f"mean penalty of the informative features {penalties[:INFORMATIVE].mean():.4f}")
print(f"mean penalty of the others {penalties[INFORMATIVE:].mean():.4f}")
