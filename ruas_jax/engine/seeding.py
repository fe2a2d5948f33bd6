"""A run's keys."""

from collections.abc import Callable

import jax


def seeded(init: Callable) -> Callable:
  """`(seed, *arguments) -> (init(key, *arguments), key, step_key)`, to be jitted: a run's first state and its two keys,
  of that state and of the steps, by one program."""

  def start(seed, *arguments):
    init_key, step_key = jax.random.split(jax.random.key(seed))
    return init(init_key, *arguments), init_key, step_key

  return start
