"""Minibatches of the training and the validation examples, drawn from a key inside jit.

The examples are pytrees whose leaves have one leading axis of N examples. They are cut into N / B blocks of B
neighbours, and a minibatch is one of these blocks. Examples that are sorted must therefore be shuffled beforehand.

Each line of an update that draws a minibatch has its own sequence of them. "random" draws every block anew. "shuffled"
takes each block once in an epoch of N / B turns of this line, in an order of that epoch. A turn that a method leaves
out, such as the factors behind the random end of a series, leaves out its block.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ruas_jax.bilevel.problem import ProblemError, PyTree

TakeSample = Callable[[PyTree, jax.Array], PyTree]  # (all examples, key) -> minibatch
Order = Literal["random", "shuffled"]


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
    order: the order of the blocks.
  """

  batch_size: int | None = None
  sample: TakeSample | None = None
  order: Order = "random"

  def check(self, data: Data) -> None:
    """Raises ProblemError if the examples do not have one leading axis, or none, or if blocks do not divide it."""
    for name, examples in data._asdict().items():
      size = count_examples(name, examples)
      if not size:
        raise ProblemError(f"{name} has no examples: the leading axes of its leaves have length 0")
      if self.sample is not None or self.batch_size is None:
        continue
      if not jax.tree.leaves(examples):
        raise ProblemError(f"batch_size is {self.batch_size}, but {name} has no arrays to take minibatches of")
      if self.batch_size > size:
        raise ProblemError(f"batch_size {self.batch_size} is larger than the {size} examples of {name}")
      if size % self.batch_size:
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

  def draw(self, examples: PyTree, place: jax.Array, turn: jax.Array) -> Sample:
    """A minibatch.

    Args:
      examples: all examples.
      place: key of the place that draws.
      turn: number of minibatches that this place has drawn before, `[]`.
    """
    key, loss_key = jax.random.split(jax.random.fold_in(place, turn))
    if self.sample is not None:
      batch = self.sample(examples, key)
      return Sample(batch, loss_key, jnp.zeros((), jnp.int32), count_examples("the minibatch of `sample`", batch))
    blocks = self.blocks(examples)
    if self.order == "random":
      index = jax.random.randint(key, (), 0, blocks)
    else:
      *_, order_key = jax.random.split(jax.random.fold_in(place, turn // blocks), 3)  # the first two are a turn's
      index = jax.random.permutation(order_key, blocks)[turn % blocks]
    return self.block(examples, index, loss_key)


class Draws:
  """The minibatches of one step. Every call is another place; `at` of a loop is for its iterations."""

  def __init__(self, sampler: Sampler, data: Data, key: jax.Array, turn: jax.Array):
    self.sampler, self.data, self._key, self._turn, self._calls = sampler, data, key, turn, 0

  def _place(self) -> jax.Array:
    self._calls += 1
    return jax.random.fold_in(self._key, self._calls)

  def key(self) -> jax.Array:
    """A new key."""
    return jax.random.fold_in(self._place(), self._turn)

  def train(self) -> Sample:
    return self.sampler.draw(self.data.train, self._place(), self._turn)

  def validation(self) -> Sample:
    return self.sampler.draw(self.data.validation, self._place(), self._turn)

  def whole(self) -> tuple[Sample, Sample]:
    """All training and all validation examples."""
    return whole(self.data.train, self.key()), whole(self.data.validation, self.key())

  def loop(self, length: int) -> "Loop":
    """Draws for the iterations of one loop, of which there are at most `length`."""
    return Loop(self.sampler, self.data, self._place(), self._turn * length)


class Loop(NamedTuple):
  """Draws by the index of an iteration. `turn` is the number of iterations in all steps before."""

  sampler: Sampler
  data: Data
  key: jax.Array
  turn: jax.Array

  def at(self, index: int | jax.Array) -> Draws:
    """The draws of the iteration."""
    return Draws(self.sampler, self.data, self.key, self.turn + index)


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
