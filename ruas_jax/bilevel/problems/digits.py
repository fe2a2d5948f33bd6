"""The 1,797 handwritten digits that scikit-learn has."""

import jax
import jax.numpy as jnp

PIXELS, CLASSES = 64, 10


def split_digits(key: jax.Array, *counts: int) -> list[dict[str, jax.Array]]:
  """Disjoint random parts of these sizes, and a last one with all other digits.

  Each has `image` [N, 64] in 0..1 and `label` [N], an integer.

  Raises:
    ImportError: scikit-learn is not installed.
    ValueError: there are not that many digits.
  """
  try:
    from sklearn.datasets import load_digits
  except ImportError as error:
    raise ImportError("the digits come with scikit-learn, which is missing: pip install scikit-learn") from error
  images, labels = load_digits(return_X_y=True)
  if sum(counts) >= len(labels):
    raise ValueError(f"{sum(counts)} digits asked for: scikit-learn has {len(labels)}, and some are kept for a test")
  order = jax.random.permutation(key, len(labels))
  images, labels = jnp.asarray(images, float)[order] / 16, jnp.asarray(labels, jnp.int32)[order]
  ends = [sum(counts[:part]) for part in range(len(counts) + 1)]
  bounds = zip(ends, [*ends[1:], len(labels)], strict=True)
  return [{"image": images[start:end], "label": labels[start:end]} for start, end in bounds]
