"""The random keys of a run."""

from collections.abc import Callable

import jax


def seeded(init: Callable) -> Callable:
  """`(seed, *arguments) -> (init(key, *arguments), key, step_key)`, not jitted: the first state of a run, the key that
  made it, and the key of the steps. One program computes all three."""

  def start(seed, *arguments):
    init_key, step_key = jax.random.split(jax.random.key(seed))
    return init(init_key, *arguments), init_key, step_key

  return start
