"""A search problem: all that the engine needs to know of what is searched."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ruas_jax.bilevel import BilevelProblem
from ruas_jax.errors import UserError
from ruas_jax.nas.derive import argmax_of_rows, entropies

PyTree = Any

MakeProblem = Callable[[PyTree, PyTree, PyTree], BilevelProblem]


@dataclasses.dataclass(frozen=True)
class Player:
  """One bilevel problem of a search. Players move one after the other in every step.

  The losses are `(weights, alpha, batch) -> []`. One that has a parameter `key` gets a PRNG key, and one may return
  `(loss, metrics)` with a dictionary of scalars, which are logged.

  Attributes:
    name: of its metrics and optimiser states.
    problem: a `BilevelProblem`, or a function of all weights, all alpha and the problem's `hyper` that returns one.
    modules: whose weights and alpha it moves. Weights and alpha are then dictionaries by module, the losses get those
      of these modules as such dictionaries, and the others stay constant. None: it moves everything.
    length: the most iterations of its inner loop in a step, at least 1.
    active: a function of the step (`[]` int32) that says whether it takes part; None: always.
  """

  name: str
  problem: BilevelProblem | MakeProblem
  modules: tuple[str, ...] | None = None
  length: int = 1
  active: Callable[[jax.Array], jax.Array] | None = None

  def pick(self, tree: PyTree) -> PyTree:
    """What it moves, of weights or alpha."""
    return tree if self.modules is None else {name: tree[name] for name in self.modules}

  def merge(self, tree: PyTree, moved: PyTree) -> PyTree:
    """The whole tree with what it has moved."""
    return moved if self.modules is None else tree | moved

  def bilevel_problem(self, weights: PyTree, alpha: PyTree, hyper: PyTree) -> BilevelProblem:
    """Its problem, given all weights and all alpha."""
    if isinstance(self.problem, BilevelProblem):
      return self.problem
    return self.problem(weights, alpha, hyper)

  def length_at(self, step: jax.Array) -> int | jax.Array:
    """The most iterations in this step."""
    return self.length if self.active is None else jnp.where(self.active(step), self.length, 0)


def as_it_is(element: PyTree, key: jax.Array) -> PyTree:
  """The default `sample`: the element is the batch."""
  del key
  return element


@dataclasses.dataclass(frozen=True)
class SearchProblem:
  """What is searched.

  Attributes:
    init: `key -> (weights, alpha)`, pytrees. Integers, booleans and PRNG keys in them are constants.
    players: who moves, in this order.
    sample: `(raw, key) -> batch`, inside jit: what the losses get, of a raw batch, which has the data's structure with
      `batch_size` elements along the leading axis. Random crops and noise belong here.
    derive: `alpha -> ` what the search has found, anything that JSON can hold. Default: argmax of every row.
    hyper: numbers that a population may sweep, a pytree. They reach the players' problems and the optimisers.
    statistics: `alpha -> {name: []}`, inside jit: what diagnostics measure of alpha. Default: entropies.
  """

  init: Callable[[jax.Array], tuple[PyTree, PyTree]]
  players: Sequence[Player]
  sample: Callable[[PyTree, jax.Array], PyTree] = as_it_is
  derive: Callable[[PyTree], Any] = argmax_of_rows
  hyper: PyTree = dataclasses.field(default_factory=dict)
  statistics: Callable[[PyTree], dict[str, jax.Array]] = entropies

  def __post_init__(self):
    names = [player.name for player in self.players]
    if not names:
      raise UserError("a search problem needs at least one player")
    for name in names:
      if names.count(name) > 1:
        raise UserError(f"two players are named {name!r}: give each a name of its own")

  def check_modules(self, weights: PyTree, alpha: PyTree) -> None:
    """Raises UserError where a player moves a module that is not there."""
    for player in self.players:
      for module in player.modules or ():
        for name, tree in (("weights", weights), ("alpha", alpha)):
          if not isinstance(tree, dict):
            raise UserError(f"player {player.name!r} moves modules, so {name} must be a dictionary by module")
          if module not in tree:
            known = ", ".join(map(repr, tree))
            raise UserError(f"player {player.name!r} moves the module {module!r}, but {name} has only {known}")
