"""Architecture search for a small classifier of handwritten digits. It uses nothing of RUAS.

    python examples/search_digits.py [--quick]

Each of four layers chooses an operation. The resulting network is trained together with ten random networks, and all
are tested on new images.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from ruas_jax import nas

OPERATIONS = {
  "skip": lambda x, kernel: x,
  "dense": lambda x, kernel: x @ kernel,
  "dense_relu": lambda x, kernel: jax.nn.relu(x @ kernel),
  "dense_sine": lambda x, kernel: jnp.sin(10 * x @ kernel),
}
LAYERS, WIDTH, quick = 4, 48, "--quick" in sys.argv


def init(key):
  """The weights, and alpha: a row of logits for each layer."""
  keys = jax.random.split(key, 3)
  weights = {
    "stem": jax.random.normal(keys[0], (64, WIDTH)) / 8,
    "layers": jax.random.normal(keys[1], (LAYERS, WIDTH, WIDTH)) / np.sqrt(WIDTH),
    "head": jax.random.normal(keys[2], (WIDTH, 10)) / np.sqrt(WIDTH),
  }
  return weights, {"layers": jnp.zeros((LAYERS, len(OPERATIONS)))}


def loss_and_accuracy(weights, shares, batch):
  """Cross entropy of the network whose layers mix the operations by `shares["layers"]` `[LAYERS, 4]`."""
  x = batch["image"] @ weights["stem"]
  for kernel, share in zip(weights["layers"], shares["layers"], strict=True):
    x = sum(weight * apply(x, kernel) for weight, apply in zip(share, OPERATIONS.values(), strict=True))
  logits = x @ weights["head"]
  loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()
  return loss, {"accuracy": jnp.mean(logits.argmax(-1) == batch["label"])}


def train_and_test(choices, train, test, steps):
  """The accuracy on `test` of each network in `choices` `[N, LAYERS]`, trained from scratch."""
  optimizer = optax.adam(3e-3)

  def accuracy(shares):
    def step(index, carry):
      weights, state = carry
      batch = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, 100 * (index % 10), 100), train)
      gradient, _ = jax.grad(loss_and_accuracy, has_aux=True)(weights, shares, batch)
      updates, state = optimizer.update(gradient, state)
      return optax.apply_updates(weights, updates), state

    start, _ = init(jax.random.key(1))
    weights, _ = jax.lax.fori_loop(0, steps, step, (start, optimizer.init(start)))
    return loss_and_accuracy(weights, shares, test)[1]["accuracy"]

  return np.asarray(jax.jit(jax.vmap(accuracy))({"layers": jax.nn.one_hot(choices, len(OPERATIONS))}))


images, labels = load_digits(return_X_y=True)
data = {"image": np.float32(images / 16), "label": np.int32(labels)}
train, test = (jax.tree.map(lambda leaf, part=part: leaf[part], data) for part in (slice(1000), slice(1000, None)))
losses = nas.BilevelProblem(loss_and_accuracy, loss_and_accuracy)
problem = nas.SearchProblem(init, [nas.Player("classifier", losses, relaxed=True)])
options = nas.SearchOptions(steps=20 if quick else 500)
found = nas.search(
  problem,
  train=train,  # half of it for validation
  options=options,
  batch_size=64,
  weight_optimizer=optax.adam(3e-3),
  alpha_optimizer=optax.adam(0.02),
)
print("found:", ", ".join(list(OPERATIONS)[choice] for choice in found.derived["layers"]))
random = np.random.default_rng(0).integers(len(OPERATIONS), size=(10, LAYERS))
accuracy, *others = train_and_test(np.stack([found.derived["layers"], *random]), train, test, 10 if quick else 150)
print(f"accuracy {accuracy:.3f}; ten random networks: mean {np.mean(others):.3f}, best {np.max(others):.3f}")
print("better than their mean" if accuracy > np.mean(others) else "not better than their mean")
