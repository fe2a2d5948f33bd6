"""One update by an optax optimiser, of weights or alpha with constant leaves, and its derivative."""

import contextlib
import inspect
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ruas_jax.bilevel.constants import split_inexact, split_state
from ruas_jax.bilevel.problem import PyTree

Inner = optax.GradientTransformation | Callable[[PyTree], optax.GradientTransformation]
"""An optimiser, or a function of alpha that returns one: its numbers are then outer variables."""


def optimizer_at(inner: Inner, alpha: PyTree) -> optax.GradientTransformation:
  """The optimiser at this alpha."""
  return inner(alpha) if callable(inner) else inner


def init_optimizer(optimizer: optax.GradientTransformation, parameters: PyTree) -> PyTree:
  """The optimiser's first state, for the floating leaves only. Masks and labels of the optimiser refer to these."""
  return optimizer.init(split_inexact(parameters)[0])


def update_parameters(
  optimizer: optax.GradientTransformation,
  gradient: PyTree,
  state: PyTree,
  parameters: PyTree,
  *,
  value: jax.Array | None = None,
  value_fn: Callable[[PyTree], jax.Array] | None = None,
) -> tuple[PyTree, PyTree]:
  """The new parameters, with unchanged constants, and the optimiser's new state.

  Args:
    optimizer: an optimiser. If it accepts extra arguments, it gets the gradient as `grad`, and `value` and `value_fn`.
    gradient: gradient for the floating leaves; for a constant any value without a derivative, such as None.
    state: result of `init_optimizer`, or of the optimiser's `init` for all leaves.
    parameters: weights or alpha.
    value: `[]`, the loss at the parameters, for optimisers that use it.
    value_fn: `parameters -> []`, the loss as a function, for line searches.
  """
  floating, merge = split_inexact(parameters)
  gradient, _ = split_inexact(gradient)
  state, merge_state = split_state(state, parameters)
  extras = {}
  if _accepts_extras(optimizer):
    extras["grad"] = gradient
    if value is not None:
      extras["value"] = value
    if value_fn is not None:
      extras["value_fn"] = lambda floating: value_fn(merge(floating))
  updates, state = optimizer.update(gradient, state, floating, **extras)
  return merge(optax.apply_updates(floating, updates)), merge_state(state)


def _accepts_extras(optimizer: optax.GradientTransformation) -> bool:
  """Whether it accepts extra arguments, by its type or by its signature: optax.MultiSteps does not have that type."""
  parameters = inspect.signature(optimizer.update).parameters.values()
  return isinstance(optimizer, optax.GradientTransformationExtraArgs) or any(
    parameter.kind is parameter.VAR_KEYWORD for parameter in parameters
  )


def apply_optimizer(
  inner: Inner,
  gradient: PyTree,
  state: PyTree,
  weights: PyTree,
  value: jax.Array,
  loss: Callable[[PyTree, PyTree], jax.Array],
  alpha: PyTree,
) -> tuple[PyTree, PyTree]:
  """The new weights and optimiser state, with a finite derivative even where the gradient is exactly zero.

  At zero, Adam's root and the norm of a clip have no derivative, and a hypergradient through them would be NaN. The
  derivative is therefore taken very close to zero; the values are those of the optimiser.

  `value` is `loss(weights, alpha)`. An optimiser that uses one of them is differentiated through it too. What the
  optimiser itself treats as a constant stays constant: `optax.lbfgs` is exact only with `scale_init_precond=False`.
  """

  def beside_zero(leaf):
    tiny = jnp.asarray(jnp.finfo(leaf.dtype).tiny, leaf.dtype) ** 0.4  # its square is still a normal number
    return leaf + lax.stop_gradient(jnp.where(leaf == 0, tiny, jnp.zeros_like(leaf)))

  def update(gradient, state, weights, value, alpha):
    optimizer = optimizer_at(inner, alpha)
    return update_parameters(optimizer, gradient, state, weights, value=value, value_fn=lambda w: loss(w, alpha))

  exact = lax.stop_gradient(update(*lax.stop_gradient((gradient, state, weights, value, alpha))))
  beside = update(jax.tree.map(beside_zero, gradient), state, weights, value, alpha)
  return jax.tree.map(_with_derivative_of, exact, beside)


def _with_derivative_of(exact, beside):
  """`exact`, which is a constant, plus a zero with the derivatives of `beside`. An infinite number has none.

  A custom derivative would not do: jax drops it from the values of a scan that is differentiated twice.
  """
  if not jnp.issubdtype(exact.dtype, jnp.inexact):
    return exact
  zero = beside - lax.stop_gradient(beside)
  return exact + jnp.where(jnp.isfinite(zero), zero, jnp.zeros_like(zero))


@contextlib.contextmanager
def explain_reverse_mode(name: str) -> Iterator[None]:
  """Context in which jax's error about a loop without reverse mode names the estimator and a remedy."""
  try:
    yield
  except ValueError as error:
    if "Reverse-mode differentiation does not work" not in str(error):
      raise
    raise ValueError(
      f"{name} differentiates a while loop in reverse mode, which jax cannot do. If the loop is the inner optimiser's "
      "line search, use forward, which is exact with it, or cg, neumann, nystrom, first_order or evolution, which do "
      "not differentiate it. If the loop is in a loss, replace it by lax.scan"
    ) from error
