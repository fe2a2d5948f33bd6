"""The order in which blocks of examples are drawn."""

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.bilevel import Data
from ruas_jax.bilevel.solvers.sampling import Draws, Sampler


def blocks_of_an_epoch(order, steps=9, length=2):
  """Blocks that an inner loop and a place outside it draw; there are six blocks."""
  sampler, examples = Sampler(2, None, order), jnp.arange(12.0)

  def step(turn):
    draws = Draws(sampler, Data(examples, examples), jax.random.key(3), turn)
    loop = draws.loop(length)
    inside = [loop.at(index).train() for index in range(length)]
    return jnp.stack([sample.block for sample in inside]), draws.validation().block, inside[0].batch

  inside, outside, batch = jax.jit(jax.vmap(step))(jnp.arange(steps))
  np.testing.assert_array_equal(batch[:, 0], 2 * inside[:, 0])
  return inside.reshape(-1, 6), outside[:6]


def test_shuffled_minibatches_come_once_in_an_epoch():
  inside, outside = blocks_of_an_epoch("shuffled")
  for epoch in (*inside, outside):
    assert sorted(epoch.tolist()) == list(range(6))
  assert len({tuple(epoch.tolist()) for epoch in (*inside, outside)}) == 4  # epochs and places have orders of their own
  inside, _ = blocks_of_an_epoch("random", steps=90)
  assert any(len(set(epoch.tolist())) < 6 for epoch in inside)
  assert np.bincount(inside.ravel(), minlength=6).min() > 15


def test_an_order_does_not_follow_from_the_keys_of_losses():
  """The order of an epoch is not that of random numbers of a key that a loss receives."""
  sampler, examples = Sampler(2, None, "shuffled"), jnp.arange(16.0)
  draw = lambda turn: Draws(sampler, Data(examples, examples), jax.random.key(0), turn).train()
  order = [int(draw(turn).block) for turn in range(8)]
  sorted_by = [jnp.argsort(jax.random.bits(draw(turn).key, (8,))).tolist() for turn in range(8)]
  assert order not in sorted_by
