"""A small classifier of handwritten digits, whose four layers choose an operation: 4^4 = 256 architectures.

The digits are scikit-learn's 1,797 images of 8x8 pixels.
"""

import functools
import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ruas_jax.errors import UserError
from ruas_jax.nas.benchmark.space import Architecture, Data, Recipe, Space

_PIXELS, _WIDTH, _CLASSES = 64, 48, 10
_TRAIN, _VALIDATION = 600, 400  # images; the rest are for testing
ABOUT = (
  "A classifier of handwritten digits with four layers of 48 units, the space of `examples/search_digits.py`. "
  "Operations of a layer share its kernel. The loss is the cross entropy. 600 images are for training, 400 for "
  "validation, 797 for testing: `accuracy` and `test_loss` are theirs."
)
LICENCE = (
  "The images are scikit-learn's digits, a part of UCI's Optical Recognition of Handwritten Digits (E. Alpaydin, "
  "C. Kaynak), CC BY 4.0. The table has no images."
)

EDGES = ("layer_1", "layer_2", "layer_3", "layer_4")
OPERATIONS = {
  "skip": lambda x, kernel: x,
  "dense": lambda x, kernel: x @ kernel,
  "dense_relu": lambda x, kernel: jax.nn.relu(x @ kernel),
  "dense_sine": lambda x, kernel: jnp.sin(10 * x @ kernel),
}


class Classifier:
  """The network, as `nas.benchmark.space.Network`. The operations of a layer share its kernel."""

  def init(self, key: jax.Array) -> dict[str, jax.Array]:
    keys = jax.random.split(key, 3)
    return {
      "stem": jax.random.normal(keys[0], (_PIXELS, _WIDTH)) / 8,
      "layers": jax.random.normal(keys[1], (len(EDGES), _WIDTH, _WIDTH)) / np.sqrt(_WIDTH),
      "head": jax.random.normal(keys[2], (_WIDTH, _CLASSES)) / np.sqrt(_WIDTH),
    }

  def __call__(self, weights: Mapping[str, jax.Array], shares: jax.Array, images: jax.Array) -> jax.Array:
    """The logits of the classes, `[B, 10]`."""
    x = images @ weights["stem"]
    for kernel, share in zip(weights["layers"], shares, strict=True):
      x = sum(weight * apply(x, kernel) for weight, apply in zip(share, OPERATIONS.values(), strict=True))
    return x @ weights["head"]

  def loss(self, weights: Mapping[str, jax.Array], shares: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
    logits = self(weights, shares, batch["image"])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

  def measure(self, weights: Mapping, shares: jax.Array, test: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """The accuracy, and the loss on the test images."""
    correct = self(weights, shares, test["image"]).argmax(-1) == test["label"]
    return {"accuracy": jnp.mean(correct), "test_loss": self.loss(weights, shares, test)}


@functools.cache
def data() -> Data:
  """600 images for training, 400 for validation, 797 for testing.

  Raises:
    UserError: scikit-learn is not installed.
  """
  try:
    from sklearn.datasets import load_digits
  except ImportError:
    raise UserError("the digits are scikit-learn's: install ruas_jax[test], or scikit-learn") from None
  images, labels = load_digits(return_X_y=True)
  ends = (0, _TRAIN, _TRAIN + _VALIDATION, len(labels))
  parts = [slice(*part) for part in itertools.pairwise(ends)]
  return Data(*({"image": np.float32(images[part] / 16), "label": np.int32(labels[part])} for part in parts))


def parameters(architecture: Architecture) -> int:
  """Number of parameters of a trained architecture."""
  dense = sum(name != "skip" for name in architecture)
  return _PIXELS * _WIDTH + dense * _WIDTH**2 + _WIDTH * _CLASSES


CLASSIFIER = Classifier()
SPACE = Space(
  name="digits",
  edges=EDGES,
  operations=tuple(OPERATIONS),
  network=CLASSIFIER,
  trained=CLASSIFIER,
  objective="accuracy",
  about=ABOUT,
  licence=LICENCE,
  data=data,
  recipe=Recipe(steps=400, batch_size=50, learning_rate=3e-3),
  parameters=parameters,
  macs=parameters,  # there are no biases
  unit="image",
  channels=_WIDTH,
)
