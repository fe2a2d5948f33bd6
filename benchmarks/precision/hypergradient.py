"""The terms of a search's hypergradient in any numbers, and their errors."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.speed.search_step import setting_of
from ruas_jax.bilevel.diagnostics import Decomposition, compare, decompose
from ruas_jax.config import Config
from ruas_jax.optimizers import make_optimizer

TERMS: dict[str, Callable[[Decomposition], Any]] = {
  "total": Decomposition.total,
  "direct": lambda terms: terms.direct,
  "implicit": lambda terms: terms.implicit,
}


def hypergradient_terms(config: Config, module: str) -> Callable:
  """`(state, train, validation) -> Decomposition`, jitted: the terms for one step of this module. `train` and
  `validation` are crops `[B, crop, crop, 3]` in [0, 1]."""
  (player,) = setting_of(config, (module,)).problem.players
  optimizer = make_optimizer(config.search.weight_optimizer)

  @jax.jit
  def terms(state, train, validation):
    bilevel = player.bilevel_problem(state.weights, state.alpha, {})
    point = player.pick(state.weights), player.pick(state.alpha), state.weight_state[player.name]
    return decompose(bilevel, optimizer, *point, train[None], validation)

  return terms


def in_numbers(tree: Any, dtype: Any) -> Any:
  """The tree with its floating numbers in this dtype."""
  return jax.tree.map(
    lambda leaf: jnp.asarray(leaf, dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else jnp.asarray(leaf), tree
  )


def errors(terms: Decomposition, reference: Decomposition) -> dict[str, float]:
  """Relative error and cosine of the hypergradient and of its terms."""
  figures = {}
  with jax.enable_x64(True):
    for name, term in TERMS.items():
      compared = compare(term(terms), term(reference))
      figures |= {f"{name}_{figure}": float(compared[figure]) for figure in ("relative_error", "cosine")}
  return figures
