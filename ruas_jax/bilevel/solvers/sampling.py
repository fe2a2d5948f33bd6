"""Minibatches of the training and the validation examples, drawn from a key inside jit.

The examples are pytrees whose leaves have one leading axis of N examples. They are cut into N / B blocks of B
neighbours, and a minibatch is one of these blocks. Examples that are sorted must therefore be shuffled beforehand.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ruas_jax.bilevel.problem import ProblemError, PyTree

TakeSample = Callable[[PyTree, jax.Array], PyTree]  # (all examples, key) -> minibatch


class Data(NamedTuple):
  """All examples of the inner loss, `train`, and of the outer loss, `validation`."""

  train: PyTree
  validation: PyTree


class Sample(NamedTuple):
  """A minibatch.

  Attributes:
    batch: the examples that a loss receives.
    key: PRNG key that a loss receives.
    block: index of the block, `[]`; 0 for all examples.
    size: number of examples, a constant.
  """

  batch: PyTree
  key: jax.Array
  block: jax.Array
  size: int


class Sampler(NamedTuple):
  """How minibatches are drawn.

  Attributes:
    batch_size: number of examples in a block; None: all of them, in every minibatch.
    sample: `(all examples, key) -> minibatch`, which replaces the blocks; None: blocks.
  """

  batch_size: int | None = None
  sample: TakeSample | None = None

  def check(self, data: Data) -> None:
    """Raises ProblemError if the examples do not have one leading axis, or if the blocks do not divide it."""
    for name, examples in data._asdict().items():
      size = count_examples(name, examples)
      if self.sample is None and self.batch_size is not None and size % self.batch_size:
        raise ProblemError(
          f"batch_size {self.batch_size} does not divide the {size} examples of {name}; choose another, or leave out "
          f"{size % self.batch_size} of them"
        )

  def blocks(self, examples: PyTree) -> int:
    """Number of blocks."""
    return 1 if self.batch_size is None else count_examples("the data", examples) // self.batch_size

  def block(self, examples: PyTree, index: jax.Array, key: jax.Array) -> Sample:
    """The block at this index."""
    size = self.batch_size
    if size is None:
      return whole(examples, key)
    batch = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, index * size, size), examples)
    return Sample(batch, key, index, size)

  def draw(self, examples: PyTree, key: jax.Array) -> Sample:
    """A minibatch that depends on the key."""
    key, loss_key = jax.random.split(key)
    if self.sample is not None:
      batch = self.sample(examples, key)
      return Sample(batch, loss_key, jnp.zeros((), jnp.int32), count_examples("the minibatch of `sample`", batch))
    return self.block(examples, jax.random.randint(key, (), 0, self.blocks(examples)), loss_key)


class Draws:
  """The minibatches of one step. Every call draws anew; `at` is for the iterations of a loop."""

  def __init__(self, sampler: Sampler, data: Data, key: jax.Array):
    self.sampler, self.data, self._key, self._calls = sampler, data, key, 0

  def key(self) -> jax.Array:
    """A new key."""
    self._calls += 1
    return jax.random.fold_in(self._key, self._calls)

  def train(self) -> Sample:
    return self.sampler.draw(self.data.train, self.key())

  def validation(self) -> Sample:
    return self.sampler.draw(self.data.validation, self.key())

  def whole(self) -> tuple[Sample, Sample]:
    """All training and all validation examples."""
    return whole(self.data.train, self.key()), whole(self.data.validation, self.key())

  def loop(self) -> "Loop":
    """Draws for the iterations of one loop."""
    return Loop(self, self.key())


class Loop:
  """Draws by the index of an iteration."""

  def __init__(self, draws: Draws, key: jax.Array):
    self._draws, self._key = draws, key

  def at(self, index: jax.Array) -> Draws:
    """The draws of the iteration."""
    return Draws(self._draws.sampler, self._draws.data, jax.random.fold_in(self._key, index))


def whole(examples: PyTree, key: jax.Array) -> Sample:
  """All examples."""
  return Sample(examples, key, jnp.zeros((), jnp.int32), count_examples("the data", examples))


def count_examples(name: str, examples: PyTree) -> int:
  """Length of the leading axis; 1 without leaves. Raises ProblemError if the leaves do not share one."""
  sizes = {}
  for path, leaf in jax.tree.leaves_with_path(examples):
    if not jnp.shape(leaf):
      raise ProblemError(f"{name}{jax.tree_util.keystr(path)} is a scalar; it needs a leading axis of examples")
    sizes[f"{name}{jax.tree_util.keystr(path)}"] = jnp.shape(leaf)[0]
  for leaf, size in sizes.items():
    first, expected = next(iter(sizes.items()))
    if size != expected:
      raise ProblemError(f"{leaf} has {size} examples, but {first} has {expected}")
  return next(iter(sizes.values()), 1)
