"""Constant leaves of weights and alpha: leaves without a derivative, which are integers, booleans and PRNG keys, and
frozen ones.

Estimators and optimisers receive only the floating leaves, with None for every constant, which jax and optax skip. The
losses receive the whole trees.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ruas_jax.bilevel.problem import BilevelProblem, ProblemError, PyTree, checked, describe_array

Merge = Callable[[PyTree], PyTree]


def _same(tree: PyTree) -> PyTree:
  return tree


def split_inexact(tree: PyTree) -> tuple[PyTree, Merge]:
  """The tree with None for every leaf without a derivative, and `merge`, which puts those leaves back into such a
  tree."""
  return _split(tree, _inexact(tree))


def split_parameters(name: str, tree: PyTree, frozen: PyTree = False) -> tuple[PyTree, Merge]:
  """`split_inexact` of weights or alpha, which errors call `name`. Leaves where `frozen` is true, a prefix of the tree
  with booleans, are constants too.

  Raises:
    ProblemError: a leaf is complex, or no leaf is floating, or all of these are frozen; or `frozen` is no prefix.
  """
  leaves = jax.tree.leaves_with_path(tree)
  for path, leaf in leaves:
    if jnp.issubdtype(_dtype(leaf), jnp.complexfloating):
      raise ProblemError(
        f"{name}{jax.tree_util.keystr(path)} is {describe_array(leaf)}: complex leaves are not supported; store "
        "the real and the imaginary part as two leaves"
      )
  if leaves and not any(_inexact(tree)):
    found = ", ".join(f"{name}{jax.tree_util.keystr(path)} {describe_array(leaf)}" for path, leaf in leaves)
    raise ProblemError(f"{name} has no floating leaf, so there is nothing to differentiate; it has {found}")
  if frozen is False:
    return split_inexact(tree)
  moving = [leaf and not fixed for leaf, fixed in zip(_inexact(tree), _broadcast(name, frozen, tree), strict=True)]
  if leaves and not any(moving):
    raise ProblemError(f"every floating leaf of {name} is frozen, so there is nothing to move")
  return _split(tree, moving)


def _broadcast(name: str, frozen: PyTree, tree: PyTree) -> list[bool]:
  """The boolean of every leaf of the tree."""
  try:
    booleans = jax.tree.map(lambda fixed, part: [fixed] * len(jax.tree.leaves(part)), frozen, tree)
  except ValueError:
    raise ProblemError(
      f"frozen_{name} must have the structure of {name} or of its upper part, with booleans; it is "
      f"{jax.tree.structure(frozen)}, and {name} is {jax.tree.structure(tree)}"
    ) from None
  return jax.tree.leaves(booleans)


def split_state(state: PyTree, parameters: PyTree) -> tuple[PyTree, Merge]:
  """An optimiser's state without the parts for the parameters' constant leaves, and `merge`, which puts them back. The
  state may cover all leaves or only the floating ones."""
  inexact, structure = _inexact(parameters), jax.tree.structure(parameters)
  if all(inexact):
    return state, _same
  parts, outer = jax.tree.flatten(state, is_leaf=lambda part: jax.tree.structure(part) == structure)
  is_whole = [jax.tree.structure(part) == structure for part in parts]
  split = [_split(part, inexact) if whole else (part, _same) for part, whole in zip(parts, is_whole, strict=True)]

  def merge(floating):
    return outer.unflatten(put(part) for part, (_, put) in zip(outer.flatten_up_to(floating), split, strict=True))

  return outer.unflatten(part for part, _ in split), merge


class Floating(NamedTuple):
  """A problem in the floating leaves only.

  Attributes:
    problem: the problem with losses of the floating leaves, `checked`.
    weights, alpha, inner_state: the floating leaves, and None for every constant.
    merge_weights, merge_state, merge_alpha: functions that put the constants back.
  """

  problem: BilevelProblem
  weights: PyTree
  alpha: PyTree
  inner_state: PyTree
  merge_weights: Merge
  merge_state: Merge
  merge_alpha: Merge


def split_problem(problem: BilevelProblem, weights: PyTree, alpha: PyTree, inner_state: PyTree) -> Floating:
  """Raises the ProblemError of `split_parameters`. A loss raises it when it returns something other than a scalar."""
  inner_state, merge_state = split_state(inner_state, weights)
  weights, merge_weights = split_parameters("weights", weights)
  alpha, merge_alpha = split_parameters("alpha", alpha)
  problem = with_constants(problem, merge_weights, merge_alpha)
  return Floating(problem, weights, alpha, inner_state, merge_weights, merge_state, merge_alpha)


def with_constants(problem: BilevelProblem, merge_weights: Merge = _same, merge_alpha: Merge = _same) -> BilevelProblem:
  """The problem, `checked`, with losses of the floating leaves."""

  def of_floating(loss):
    return lambda weights, alpha, batch: loss(merge_weights(weights), merge_alpha(alpha), batch)

  return BilevelProblem(*map(of_floating, checked(problem)))


def _inexact(tree: PyTree) -> list[bool]:
  return [jnp.issubdtype(_dtype(leaf), jnp.inexact) for leaf in jax.tree.leaves(tree)]


def _dtype(leaf):
  return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


def _split(tree: PyTree, kept: Sequence[bool]) -> tuple[PyTree, Merge]:
  """The tree with None for the leaves that are not kept, and `merge`."""
  if all(kept):
    return tree, _same
  leaves, structure = jax.tree.flatten(tree)

  def merge(floating):
    moved = iter(jax.tree.leaves(floating))
    return structure.unflatten(next(moved) if keep else leaf for leaf, keep in zip(leaves, kept, strict=True))

  return structure.unflatten(leaf if keep else None for leaf, keep in zip(leaves, kept, strict=True)), merge
