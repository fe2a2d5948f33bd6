"""What a loss computes from alpha alone is computed once, before the loop of inner steps.

In a loop, a loss such as `error(w, features(alpha, images))` would compute its features anew in every step: compilers
do not move values out of a loop that are larger than what they are made from. Here the loss is traced once. Its
operations that depend neither on the weights nor on the batch run before the loop, and the loop gets their results.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import core

from ruas_jax.bilevel.problem import PyTree

_CALLS = ("jit", "pjit")
_OWN_RULE = "custom_vjp_call"  # such a derivative need not be linear: of a sum it is not the sum
_CHEAP = ("broadcast_in_dim", "iota")  # done anew: their results are only larger


class _Operation(NamedTuple):
  """An operation of a traced function, whose values are numbered.

  Attributes:
    name: name of the primitive.
    run: `(*operands) -> results`.
    operands, results: the numbers of these values.
    may_move: whether its derivative is linear, so that it may be computed before the loop.
  """

  name: str
  run: Callable[..., list[Any]]
  operands: list[int]
  results: list[int]
  may_move: bool

  def add_to(self, values: dict[int, Any]) -> None:
    """Puts the results of these values beside them."""
    found = self.run(*(values[number] for number in self.operands))
    values.update(zip(self.results, found, strict=True))


def with_invariants(function: Callable[..., PyTree], *arguments: PyTree) -> Callable[..., PyTree]:
  """The same function of arguments like these, for a loop. What does not depend on its arguments is computed now.

  Its derivatives are the same too, also those with respect to values that it closes over.
  """
  traced, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
  if traced.effects:
    return function
  numbers = itertools.count()
  known = {next(numbers): value for value in traced.consts}
  inputs = [next(numbers) for _ in traced.jaxpr.invars]
  operations, outputs = _flatten(traced.jaxpr, [*known, *inputs], known, numbers)
  rest, larger = [], set()
  for operation in operations:
    is_known = operation.may_move and all(number in known for number in operation.operands)
    if is_known:
      operation.add_to(known)
    if not is_known or operation.name in _CHEAP:
      rest.append(operation)
      larger.update(operation.results)
  if len(rest) == len(operations):
    return function
  kept = {number: value for number, value in known.items() if number not in larger}

  def remaining(*arguments):
    values = kept | dict(zip(inputs, jax.tree.leaves(arguments), strict=True))
    for operation in rest:
      operation.add_to(values)
    return jax.tree.unflatten(jax.tree.structure(shape), [values[number] for number in outputs])

  return remaining


def _flatten(
  jaxpr: Any, inputs: list[int], known: dict[int, Any], numbers: Iterator[int]
) -> tuple[list[_Operation], list[int]]:
  """The operations of a jaxpr, with those of jitted functions in the place of their calls; and the numbers of its
  outputs. Literals that are outputs or operands of calls join `known`."""
  names = dict(zip([*jaxpr.constvars, *jaxpr.invars], inputs, strict=True))

  def read(atom):
    if not isinstance(atom, core.Literal):
      return names[atom]
    known[number := next(numbers)] = atom.val
    return number

  operations = []
  for equation in jaxpr.eqns:
    if equation.primitive.name in _CALLS and not equation.params["jaxpr"].consts:
      operands = [read(atom) for atom in equation.invars]
      inside, results = _flatten(equation.params["jaxpr"].jaxpr, operands, known, numbers)
      operations += inside
    else:
      variables = list(dict.fromkeys(atom for atom in equation.invars if not isinstance(atom, core.Literal)))
      alone = jaxpr.replace(constvars=[], invars=variables, outvars=equation.outvars, eqns=[equation])
      run = core.jaxpr_as_fun(core.ClosedJaxpr(alone, ()))
      results = [next(numbers) for _ in equation.outvars]
      operands = [names[atom] for atom in variables]
      operations.append(_Operation(equation.primitive.name, run, operands, results, not _has_own_rule(equation)))
    names.update(zip(equation.outvars, results, strict=True))
  return operations, [read(atom) for atom in jaxpr.outvars]


def _has_own_rule(equation: Any) -> bool:
  """Whether the equation, or one inside it, has a custom derivative in reverse mode."""
  if equation.primitive.name == _OWN_RULE:
    return True
  parameters = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda value: hasattr(value, "eqns"))
  inside = [value for value in parameters if hasattr(value, "eqns")]
  return any(_has_own_rule(each) for jaxpr in inside for each in jaxpr.eqns)
