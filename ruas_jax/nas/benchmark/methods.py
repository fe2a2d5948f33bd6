"""Searching a space, and what its supernet thinks of each architecture."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from ruas_jax.bilevel.invariants import with_invariants
from ruas_jax.errors import UserError
from ruas_jax.nas.benchmark.space import Architecture, Space
from ruas_jax.nas.one_search import search
from ruas_jax.nas.options import SearchOptions
from ruas_jax.nas.population import search_population
from ruas_jax.nas.problem import SearchProblem
from ruas_jax.nas.result import SearchResult


def search_space(problem: SearchProblem, space: Space, options: SearchOptions, seed: int, **more: Any) -> SearchResult:
  """`nas.search` with the data of a space. The weights are trained by its recipe, for the length of the search."""
  return search(problem, options=options, seed=seed, **(arguments_of(space, options) | more))


def search_seeds(
  problem: SearchProblem, space: Space, options: SearchOptions, seeds: Sequence[int], **more: Any
) -> list[SearchResult]:
  """The same with each seed, all in one program.

  Raises:
    UserError: a search failed; the message names its seed.
  """
  arguments = arguments_of(space, options) | more
  population = search_population(problem, options=options, seeds=seeds, **arguments)
  results = []
  for seed, result, failure in zip(seeds, population.results, population.failures, strict=True):
    if result is None:
      raise UserError(f"the search with seed {seed} failed: {failure}")
    results.append(result)
  return results


def arguments_of(space: Space, options: SearchOptions) -> dict[str, Any]:
  """Arguments of `nas.search` and `nas.search_population`: the data of a space, and the optimisers of its recipe."""
  data = space.data()
  parts, steps = options.parts, options.steps
  if parts.selection == "perturbation":  # it goes on training the weights, which needs a learning rate above zero
    steps += (len(space.edges) - 1) * parts.tuning_steps
  return {
    "train": dict(data.train),
    "validation": dict(data.validation),
    "batch_size": space.recipe.batch_size,
    "weight_optimizer": space.recipe.optimizer(steps),
    "alpha_optimizer": optax.adam(space.alpha_rate, b1=0.5),
    "repeat": True,
  }


def supernet_losses(space: Space, weights: Any, architectures: Sequence[Architecture]) -> np.ndarray:
  """`[N]`: the validation loss of the supernet's weights with each architecture's operations alone."""
  choices = np.array([[space.operations.index(name) for name in names] for names in architectures], np.int32)
  return np.asarray(_losses(space)(weights, choices, space.data().validation))


@functools.cache
def _losses(space: Space):
  network = space.compared or space.trained

  def losses(weights, choices, validation):
    batch = space.whole(validation)

    def loss(choice):
      shares = jax.nn.one_hot(choice, len(space.operations), dtype=jnp.float32)
      return network.loss(weights, shares, batch)

    return lax.map(with_invariants(loss, choices[0]), choices)

  return jax.jit(losses)
