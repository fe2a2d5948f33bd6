"""Training architectures of a space from scratch, one after the other in one compiled program.

The architecture and the seed are data of the program. All runs have the same batches in the same order; the seed
determines only the first weights.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from ruas_jax.engine.compiler import compiler_options
from ruas_jax.nas.benchmark.space import Space

ORDER_SEED = 7  # of the batches


def make_training(
  space: Space, members: int
) -> Callable[[Sequence[tuple[int, ...]], Sequence[int]], dict[str, np.ndarray]]:
  """`train(choices, seeds) -> metrics`, each `[N, 4]`: at the four lengths of training.

  `choices` has the index of the operation on every edge. `N` is at most `members`.
  """
  run = jax.jit(functools.partial(_train_all, space), compiler_options=compiler_options())
  data = jax.tree.map(jnp.asarray, space.data())
  order = batch_order(space, len(jax.tree.leaves(data.train)[0]))

  def train(choices, seeds):
    count = len(choices)
    padded = [list(choices) + [choices[0]] * (members - count), list(seeds) + [seeds[0]] * (members - count)]
    metrics = run(*(np.array(values, np.int32) for values in padded), order, data)
    return {name: np.asarray(values)[:count] for name, values in metrics.items()}

  return train


def batch_order(space: Space, elements: int) -> np.ndarray:
  """`[steps, batch]`: the elements of every batch; each element once before any comes again."""
  recipe, rng = space.recipe, np.random.default_rng(ORDER_SEED)
  count = recipe.steps * recipe.batch_size
  rounds = [rng.permutation(elements) for _ in range(-(-count // elements))]
  return np.concatenate(rounds)[:count].reshape(recipe.steps, recipe.batch_size).astype(np.int32)


def _train_all(space: Space, choices, seeds, order, data) -> dict[str, jax.Array]:
  def train_one(member):
    choice, seed = member
    shares = jax.nn.one_hot(choice, len(space.operations), dtype=jnp.float32)
    return train_architecture(space, shares, seed, order, data)

  return lax.map(train_one, (choices, seeds))


def train_architecture(
  space: Space, shares: jax.Array, seed: jax.Array, order: jax.Array, data: Any
) -> dict[str, jax.Array]:
  """The metrics of one training at the recipe's four lengths, `[4]` each."""
  recipe, network, optimizer = space.recipe, space.trained, space.recipe.optimizer()
  weights = network.init(jax.random.key(seed))

  def step(carry, indices_and_number):
    weights, state, average, mean_loss = carry
    indices, number = indices_and_number
    raw = jax.tree.map(lambda leaf: leaf[indices], data.train)
    batch = space.sample(raw, jax.random.fold_in(jax.random.key(ORDER_SEED), number))
    loss, gradient = jax.value_and_grad(network.loss)(weights, shares, batch)
    updates, state = optimizer.update(gradient, state, weights)
    weights = optax.apply_updates(weights, updates)
    move = jnp.maximum(1 - recipe.averaging, 9 / (number + 10.0))
    average = jax.tree.map(lambda old, new: old + move * (new - old), average, weights)
    return (weights, state, average, mean_loss + move * (loss - mean_loss)), None

  def measure(average, mean_loss):
    validation = space.whole(data.validation)
    losses = {"train_loss": mean_loss, "validation_loss": network.loss(average, shares, validation)}
    return network.measure(average, shares, data.test) | losses

  carry, found, begun = (weights, optimizer.init(weights), weights, jnp.zeros(())), [], 0
  for length in recipe.lengths:
    steps = (order[begun:length], jnp.arange(begun, length))
    carry, _ = lax.scan(step, carry, steps)
    found.append((carry[2], carry[3]))
    begun = length
  averages, losses = jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)
  return lax.map(lambda each: measure(*each), (averages, losses))
