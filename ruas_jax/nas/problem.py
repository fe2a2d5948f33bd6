"""A search problem: everything that the engine needs to know about it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ruas_jax.bilevel import BilevelProblem
from ruas_jax.errors import UserError
from ruas_jax.nas.derive import argmax_of_rows, entropies
from ruas_jax.nas.relaxation import Relaxation

PyTree = Any

MakeProblem = Callable[[PyTree, PyTree, PyTree], BilevelProblem]


@dataclasses.dataclass(frozen=True)
class Player:
  """One bilevel problem of a search. In every step the players update their variables one after the other.

  The losses are `(weights, alpha, batch) -> []`. If the player is relaxed, they are `(weights, shares, batch) -> []`:
  alpha are architecture logits, and shares are the mixing weights that the relaxation makes of them. A loss with a
  parameter `key` receives a PRNG key. A loss may return `(loss, metrics)` with a dictionary of scalars, which are
  logged.

  Attributes:
    name: prefix of its metrics, and key of its optimiser states.
    problem: a `BilevelProblem`, or a function of all weights, all alpha and the problem's `hyper` that returns one.
    modules: names of the modules whose weights and alpha this player updates. Weights and alpha are then dictionaries
      by module; the losses receive only these modules, and the others stay constant. None: the player updates
      everything.
    length: maximum number of iterations of its inner loop in a step, at least 1.
    active: a function of the step (`[]` int32) that returns whether the player takes part; None: always.
    tolerance: a function of the problem's `hyper` that returns the tolerance of its inner loop, so that a population
      can sweep it; None: that of the options.
    relaxed: whether the losses and the function `problem` receive mixing weights in the place of alpha. Alpha then has
      logits `[..., O]` of O alternatives in every leaf.
  """

  name: str
  problem: BilevelProblem | MakeProblem
  modules: tuple[str, ...] | None = None
  length: int = 1
  active: Callable[[jax.Array], jax.Array] | None = None
  tolerance: Callable[[PyTree], float | jax.Array] | None = None
  relaxed: bool = False

  def pick(self, tree: PyTree) -> PyTree:
    """The part of `tree` (weights or alpha) that this player updates."""
    return tree if self.modules is None else {name: tree[name] for name in self.modules}

  def merge(self, tree: PyTree, moved: PyTree) -> PyTree:
    """`tree` with this player's part replaced by `moved`."""
    return moved if self.modules is None else tree | moved

  def bilevel_problem(
    self,
    weights: PyTree,
    alpha: PyTree,
    hyper: PyTree,
    relaxation: Relaxation = Relaxation(),
    key: jax.Array | None = None,
  ) -> BilevelProblem:
    """The player's bilevel problem in alpha, given all weights and all alpha. `key` is for the mixing weights that the
    function `problem` receives, where the relaxation draws them."""
    if not self.relaxed:
      return self.given_problem(weights, alpha, hyper)
    shares = None if isinstance(self.problem, BilevelProblem) else relaxation(alpha, key)
    inner, outer = self.given_problem(weights, shares, hyper)
    return BilevelProblem(relaxation.of_inner(inner), relaxation.of_outer(outer))

  def given_problem(self, weights: PyTree, shares: PyTree, hyper: PyTree) -> BilevelProblem:
    """The problem as it was given, in mixing weights if the player is relaxed."""
    return self.problem if isinstance(self.problem, BilevelProblem) else self.problem(weights, shares, hyper)

  def length_at(self, step: jax.Array) -> int | jax.Array:
    """Maximum number of iterations in this step."""
    return self.length if self.active is None else jnp.where(self.active(step), self.length, 0)


def as_it_is(element: PyTree, key: jax.Array) -> PyTree:
  """The default `sample`: returns the element itself as the batch."""
  del key
  return element


@dataclasses.dataclass(frozen=True)
class SearchProblem:
  """A problem that can be searched.

  Attributes:
    init: `key -> (weights, alpha)`, pytrees. Integers, booleans and PRNG keys in them are constants.
    players: the players, in the order of their updates.
    sample: `(raw, key) -> batch`, inside jit. `raw` has the data's structure with `batch_size` elements along the
      leading axis; the losses receive the batch. Use it for random crops and noise.
    derive: `alpha -> result` of the search, any value that JSON can hold. Default: argmax of every row.
    hyper: pytree of numbers that a population may sweep. The players' problems and the optimisers receive it.
    statistics: `alpha -> {name: []}`, inside jit: statistics of alpha for the diagnostics. Default: entropies.
    costs: name -> `shares -> []`: an architecture's expected costs, differentiable in the mixing weights of all
      modules. `SearchOptions.cost` names the one that the search takes into account (`nas.cost`).
    skip: column of the operation that passes its input on, the same in every leaf of alpha; None: there is none.
    channels: number of channels C that every leaf's mixed operations have, in alpha's structure. The losses then also
      receive mixing weights `[..., O, C]`, which differ from output channel to output channel (partial channels); None:
      they cannot.
  """

  init: Callable[[jax.Array], tuple[PyTree, PyTree]]
  players: Sequence[Player]
  sample: Callable[[PyTree, jax.Array], PyTree] = as_it_is
  derive: Callable[[PyTree], Any] = argmax_of_rows
  hyper: PyTree = dataclasses.field(default_factory=dict)
  statistics: Callable[[PyTree], dict[str, jax.Array]] = entropies
  costs: Mapping[str, Callable[[PyTree], jax.Array]] = dataclasses.field(default_factory=dict)
  skip: int | None = None
  channels: PyTree = None

  def __post_init__(self):
    names = [player.name for player in self.players]
    if not names:
      raise UserError("a search problem needs at least one player")
    for name in names:
      if names.count(name) > 1:
        raise UserError(f"two players are named {name!r}: give every player a different name")

  def check_modules(self, weights: PyTree, alpha: PyTree) -> None:
    """Raises UserError where a player's module does not exist."""
    for player in self.players:
      for module in player.modules or ():
        for name, tree in (("weights", weights), ("alpha", alpha)):
          if not isinstance(tree, dict):
            raise UserError(
              f"player {player.name!r} has modules, so {name} must be a dictionary with their names as keys"
            )
          if module not in tree:
            known = ", ".join(map(repr, tree))
            raise UserError(f"player {player.name!r} has the module {module!r}, but {name} has only {known}")
