"""The bilevel problem, the interface of a hypergradient estimator, and the record that it returns.

    minimise over alpha   outer_loss(weights*(alpha), alpha)   with   weights*(alpha) = argmin inner_loss(., alpha)

All arguments are pytrees of any meaning.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
Loss = Callable[..., Any]  # of (weights, alpha, batch); in a search it may have a key and metrics too (`nas.Player`)


class BilevelProblem(NamedTuple):
  """Two scalar losses, each `(weights, alpha, batch) -> []`.

  Leaves of weights and alpha that are integers, booleans or PRNG keys are constants; complex leaves are refused.
  """

  inner_loss: Loss
  outer_loss: Loss


class ProblemError(TypeError):
  """A loss, weights or alpha that a bilevel problem cannot have. The message is one line that says which and why."""


def checked(problem: BilevelProblem) -> BilevelProblem:
  """The problem with losses that raise ProblemError if their result is not one real floating number."""
  return BilevelProblem(*(_scalar(name, loss) for name, loss in problem._asdict().items()))


def _scalar(name: str, loss: Loss) -> Loss:
  return lambda weights, alpha, batch: require_scalar(name, loss(weights, alpha, batch))


def require_scalar(name: str, value: Any) -> jax.Array:
  """The value of the loss `name`. Raises ProblemError if it is not one real floating number."""
  if not (_is_array(value) and jnp.shape(value) == () and jnp.issubdtype(jnp.result_type(value), jnp.floating)):
    raise ProblemError(
      f"BilevelProblem.{name} must return one real number (a floating scalar), not {_shapes_of(value)}; reduce an "
      "array, for example with jnp.mean, and return only the number"
    )
  return jnp.asarray(value)


def _is_array(value: Any) -> bool:
  return isinstance(value, jax.Array | np.ndarray | np.generic | bool | int | float | complex)


def describe_array(array: jax.Array) -> str:
  """Dtype and shape for errors, such as `float32[3]`."""
  return f"{jnp.result_type(array)}{list(jnp.shape(array))}"


def _shapes_of(value: Any) -> str:
  """Dtypes and shapes for errors, such as `float32[3]` or `tuple (float32[], int32[2])`."""
  if _is_array(value):
    return describe_array(value)
  leaves = jax.tree.leaves(value)
  if not leaves or leaves[0] is value:  # None, or not an array
    return type(value).__name__
  return f"{type(value).__name__} ({', '.join(map(_shapes_of, leaves))})"


class HypergradientOut(NamedTuple):
  """An estimate of `d outer_loss / d alpha`.

  Attributes:
    outer_loss: `[]`, at the weights where the estimator evaluates it.
    gradient: alpha's structure, with None for every constant leaf; `update_parameters` applies it.
    weights: the weights after the inner steps, with unchanged constants.
    inner_state: the inner optimiser's state after the inner steps.
    diagnostics: scalars, by name.
  """

  outer_loss: jax.Array
  gradient: PyTree
  weights: PyTree
  inner_state: PyTree
  diagnostics: dict[str, jax.Array]


class Estimator(Protocol):
  """`train_batches` has a leading axis of length `steps`. The incoming `inner_state` is treated as a constant.

  The result of `make_estimator` accepts leaves of weights and alpha that are not floating. The estimators that it wraps
  receive None for them.
  """

  def __call__(
    self,
    problem: BilevelProblem,
    weights: PyTree,
    alpha: PyTree,
    inner_state: PyTree,
    train_batches: PyTree,
    val_batch: PyTree,
    *,
    key: jax.Array | None = None,
  ) -> HypergradientOut: ...


def require_key(name: str, key: jax.Array | None) -> jax.Array:
  """The key. Raises ValueError if a stochastic estimator was called without a key."""
  if key is None:
    raise ValueError(f"{name} draws at random: call it with key=jax.random.key(seed)")
  return key
