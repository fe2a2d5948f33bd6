"""The state of a search: one immutable pytree. With the seed and the data, it determines the rest of the run."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ruas_jax.bilevel import init_optimizer
from ruas_jax.nas.problem import SearchProblem

MakeOptimizer = Callable[[Any], optax.GradientTransformation]


class SearchState(NamedTuple):
  """Attributes:
  step: `[]` int32, number of steps done.
  weights: weights of the supernet.
  alpha: architecture logits.
  weight_state, alpha_state: optimiser states, by player.
  """

  step: jax.Array
  weights: Any
  alpha: Any
  weight_state: dict[str, Any]
  alpha_state: dict[str, Any]


class Optimizers(NamedTuple):
  """The optimisers of weights and alpha: each an optax optimiser, or a function of `hyper` that returns one."""

  weights: optax.GradientTransformation | MakeOptimizer
  alpha: optax.GradientTransformation | MakeOptimizer

  def at(self, hyper: Any) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """The two optimisers for these numbers."""
    return _at(self.weights, hyper), _at(self.alpha, hyper)


def _at(optimizer: optax.GradientTransformation | MakeOptimizer, hyper: Any) -> optax.GradientTransformation:
  return optimizer if isinstance(optimizer, optax.GradientTransformation) else optimizer(hyper)


def init_state(problem: SearchProblem, optimizers: Optimizers, key: jax.Array, hyper: Any) -> SearchState:
  """The first state, from the problem's `init`.

  Raises:
    UserError: a player's module does not exist.
  """
  weights, alpha = problem.init(key)
  problem.check_modules(weights, alpha)
  of_weights, of_alpha = optimizers.at(hyper)
  return SearchState(
    step=jnp.zeros((), jnp.int32),
    weights=weights,
    alpha=alpha,
    weight_state={player.name: init_optimizer(of_weights, player.pick(weights)) for player in problem.players},
    alpha_state={player.name: init_optimizer(of_alpha, player.pick(alpha)) for player in problem.players},
  )
