"""One point of a bilevel problem where the estimators are compared, and the number formats of the comparison."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ruas_jax.bilevel import BilevelProblem
from ruas_jax.bilevel.problem import PyTree


class Frozen(NamedTuple):
  """A bilevel problem at a fixed point; the leaves are numpy arrays.

  Attributes:
    problems: its losses by name, "raw" and "smoothed": `others -> BilevelProblem`.
    make_inner: `rate -> inner optimiser`; the learning rate is a number or traced.
    rate: learning rate of the problem.
    others: everything that the losses treat as constant.
    weights, alpha, inner_state: the point.
    train_batches: batches with a leading axis as long as the longest horizon.
    val_batch: batch of the outer loss.
  """

  problems: Mapping[str, Callable[[PyTree], BilevelProblem]]
  make_inner: Callable[[float | jax.Array], optax.GradientTransformation]
  rate: float
  others: PyTree
  weights: PyTree
  alpha: PyTree
  inner_state: PyTree
  train_batches: PyTree
  val_batch: PyTree

  def arguments(self, steps: int, dtype: str) -> tuple[PyTree, ...]:
    """`(others, weights, alpha, inner state, train batches of so many steps, validation batch)` in `dtype`."""
    train_batches = jax.tree.map(lambda leaf: leaf[:steps], self.train_batches)
    arguments = (self.others, self.weights, self.alpha, self.inner_state, train_batches, self.val_batch)
    return jax.tree.map(lambda leaf: _cast(np.asarray(leaf), dtype), arguments)


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
  """Context for creating, tracing and calling in `dtype`: float64 is enabled, and float32 products are true float32."""
  with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
    yield


def _cast(leaf, dtype):
  return leaf.astype(jnp.dtype(dtype)) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
