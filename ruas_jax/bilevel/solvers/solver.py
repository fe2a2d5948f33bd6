"""The interface of a solver, and the frame that all methods share.

    solver = make_solver("soba", problem, inner=0.1, outer=0.01)
    state = solver.init(weights, alpha, Data(train, validation), jax.random.key(0))
    state = solver.step(state, data)          # pure: jit, scan and vmap work

A method says how the weights move and in which direction alpha descends. The frame splits off constants and frozen
leaves, draws minibatches, moves alpha by the outer optimiser, projects it, and reports the counts of the oracle.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ruas_jax.bilevel.constants import split_parameters
from ruas_jax.bilevel.losses import COLLECTION, require_like, takes
from ruas_jax.bilevel.optimizer import init_optimizer, update_parameters
from ruas_jax.bilevel.problem import BilevelProblem, ProblemError, PyTree
from ruas_jax.bilevel.solvers.oracle import Oracle
from ruas_jax.bilevel.solvers.rates import Rate, require_counts, require_positive
from ruas_jax.bilevel.solvers.sampling import Data, Draws, Order, Sampler, TakeSample


class SolverState(NamedTuple):
  """The state of every solver, a pytree of arrays.

  Attributes:
    weights, alpha: the present point.
    memory: what the method carries from step to step: a solution of the linear system, averages, tables.
    outer_state: state of the outer optimiser.
    collection: the mutable collection of the inner loss; None: it has none.
    step: number of steps taken, `[]` int32.
    key: PRNG key of the run; every draw of every step folds its numbers into it.
    diagnostics: scalars of the last step by name; of `init` before the first one.
  """

  weights: PyTree
  alpha: PyTree
  memory: PyTree
  outer_state: PyTree
  collection: PyTree
  step: jax.Array
  key: jax.Array
  diagnostics: dict[str, jax.Array]


class Solver(NamedTuple):
  """A pair of functions, as in optax.

  Attributes:
    init: `(weights, alpha, data, key, collection=None) -> state`.
    step: `(state, data) -> state`.
  """

  init: Callable[..., SolverState]
  step: Callable[[SolverState, Data], SolverState]


class Point(NamedTuple):
  """What a method sees of the state: the floating leaves of weights and alpha, its memory, and the step from 0."""

  weights: PyTree
  alpha: PyTree
  memory: PyTree
  step: jax.Array


class Move(NamedTuple):
  """What a method returns.

  Attributes:
    weights: the new weights.
    direction: the direction that alpha descends, an estimate of the hypergradient.
    memory: the new memory.
    diagnostics: scalars by name, `outer_loss` among them.
    collection: the new collection, from a method that does not use the oracle; None: that of the oracle.
    counted: whether the oracle has seen all derivatives.
  """

  weights: PyTree
  direction: PyTree
  memory: PyTree
  diagnostics: dict[str, jax.Array]
  collection: PyTree = None
  counted: bool = True


class Method(NamedTuple):
  """A method in the floating leaves.

  Attributes:
    init: `(oracle, point, draws) -> memory`; the point has no memory yet.
    step: `(oracle, point, draws) -> Move`.
    blocks: whether minibatches must be blocks of the examples, so that `sample` is not allowed. saba keeps a value of
      each block; srba takes all examples now and then, whose mean loss must be that of the minibatches.
  """

  init: Callable[[Oracle, Point, Draws], PyTree]
  step: Callable[[Oracle, Point, Draws], Move]
  blocks: bool = False


def as_solver(
  name: str,
  method: Method,
  problem: BilevelProblem,
  *,
  outer: Rate | optax.GradientTransformation,
  batch_size: int | None = None,
  sample: TakeSample | None = None,
  order: Order = "random",
  projection: Callable[[PyTree], PyTree] | None = None,
  frozen_weights: PyTree = False,
  frozen_alpha: PyTree = False,
) -> Solver:
  """The solver of a method.

  Args:
    name: name of the method in errors.
    method: the method.
    problem: the problem. A loss may have the parameters `key` and `collection`, and may return `(loss, metrics)`.
    outer: step size of alpha, or any optax optimiser of it that needs no `value_fn`.
    batch_size: number of examples in a minibatch; None: all.
    sample: `(all examples, key) -> minibatch`, in the place of `batch_size`.
    order: order of the minibatches. random: every one is drawn anew, as the papers assume; shuffled: each line of the
      update that draws takes a minibatch at most once in an epoch.
    projection: `alpha -> alpha`, applied after each update, such as `optax.projections.projection_simplex`.
    frozen_weights, frozen_alpha: pytrees of booleans, of the tree's structure or a prefix of it. Where they are true,
      leaves do not move.
  """
  if batch_size is not None:
    require_counts(None, batch_size=batch_size)
  if sample is not None and (batch_size is not None or method.blocks):
    other = "give only one of batch_size and sample" if batch_size is not None else f"method {name} needs batch_size"
    raise ValueError(f"sample draws minibatches that are not blocks of the examples: {other}")
  if order not in get_args(Order):
    raise ValueError(f"order must be random or shuffled, not {order!r}")
  optimizer, sampler = _as_optimizer(name, outer), Sampler(batch_size, sample, order)

  def split(weights, alpha):
    weights, merge_weights = split_parameters("weights", weights, frozen_weights)
    alpha, merge_alpha = split_parameters("alpha", alpha, frozen_alpha)
    return weights, alpha, merge_weights, merge_alpha

  def init(weights: PyTree, alpha: PyTree, data: Data, key: jax.Array, collection: PyTree = None) -> SolverState:
    _check_collection(problem, collection)
    sampler.check(data)
    weights, alpha, collection = jax.tree.map(_as_array, (weights, alpha, collection))
    w, a, merge_weights, merge_alpha = split(weights, alpha)
    oracle = Oracle(problem, merge_weights, merge_alpha, collection)
    step = jnp.zeros((), jnp.int32)
    memory = method.init(oracle, Point(w, a, None, step), Draws(sampler, data, jax.random.fold_in(key, 0), step))
    state = SolverState(weights, alpha, memory, init_optimizer(optimizer, a), collection, step, key, {})
    shapes = jax.eval_shape(take_step, state, data).diagnostics
    diagnostics = jax.tree.map(lambda shape: _nothing(shape.shape, shape.dtype), shapes)
    counts = {name: count for name, count in oracle.record.counts._asdict().items() if name in diagnostics}
    return state._replace(diagnostics=diagnostics | counts)

  def take_step(state: SolverState, data: Data) -> SolverState:
    sampler.check(data)
    w, a, merge_weights, merge_alpha = split(state.weights, state.alpha)
    oracle = Oracle(problem, merge_weights, merge_alpha, state.collection)
    draws = Draws(sampler, data, jax.random.fold_in(state.key, 1), state.step)
    move = method.step(oracle, Point(w, a, state.memory, state.step), draws)
    value = move.diagnostics["outer_loss"]
    alpha, outer_state = update_parameters(optimizer, move.direction, state.outer_state, a, value=value)
    alpha, weights = merge_alpha(alpha), merge_weights(move.weights)
    if projection is not None:
      projected = projection(alpha)
      require_like("the projection of alpha", projected, alpha)
      alpha = projected
    record = oracle.record
    diagnostics = {**move.diagnostics, "hypergradient_norm": optax.tree.norm(move.direction)}
    if move.counted:
      diagnostics |= {**record.counts._asdict(), "curvature": record.curvature, "indefinite": record.indefinite}
    diagnostics |= oracle.metrics(w, a, draws.train(), draws.validation())
    diagnostics["finite"] = _all_finite((move.weights, alpha))
    diagnostics = {name: _strong(value) for name, value in diagnostics.items()}
    return state._replace(
      weights=weights,
      alpha=alpha,
      memory=move.memory,
      outer_state=outer_state,
      collection=record.collection if move.collection is None else move.collection,
      step=state.step + 1,
      diagnostics=diagnostics,
    )

  return Solver(init, take_step)


def _as_optimizer(name: str, outer: Any) -> optax.GradientTransformation:
  """Gradient descent for a number, which may be traced, or a schedule; an optimiser as it is."""
  if hasattr(outer, "init"):
    return outer
  require_positive(name, outer=outer)
  return optax.sgd(outer)


def _check_collection(problem, collection):
  taking = [name for name, loss in problem._asdict().items() if takes(loss, COLLECTION)]
  if taking and collection is None:
    raise ProblemError(f"BilevelProblem.{taking[0]} has a parameter `collection`: give its first value, `collection=`")
  if collection is not None and not takes(problem.inner_loss, COLLECTION):
    raise ProblemError("`collection` is given, but BilevelProblem.inner_loss has no parameter of this name")


def _as_array(leaf):
  """Python numbers become arrays, so that a step does not change the state's types."""
  return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf, jnp.result_type(leaf))


def _strong(value):
  """The scalar without jax's weak type, which would make the state's types depend on where a number came from."""
  return lax.convert_element_type(value, jnp.result_type(value))


def _nothing(shape, dtype):
  return jnp.full(shape, jnp.nan, dtype) if jnp.issubdtype(dtype, jnp.floating) else jnp.zeros(shape, dtype)


def _all_finite(tree):
  floating = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
  return jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in floating]).all()
