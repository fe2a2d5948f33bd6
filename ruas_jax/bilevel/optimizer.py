"""One update of an optax optimiser, on weights or alpha with constant leaves, and its derivative."""

import contextlib
import inspect
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ruas_jax.bilevel.constants import split_inexact, split_state
from ruas_jax.bilevel.problem import PyTree


def init_optimizer(optimizer: optax.GradientTransformation, parameters: PyTree) -> PyTree:
  """The optimiser's first state, of the floating leaves alone; masks and labels that it was made with are of those."""
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
  """New parameters, their constants unchanged, and the optimiser's new state.

  Args:
    optimizer: it gets the gradient again as `grad`, `value` and `value_fn` where it accepts extra arguments.
    gradient: of the floating leaves; for a constant anything that has no derivative, such as None.
    state: of `init_optimizer`, or of the optimiser's own `init` of all leaves.
    parameters: weights or alpha.
    value: `[]`, the loss at the parameters; needed by optimisers that ask for it.
    value_fn: `parameters -> []`, that loss; needed by line searches.
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
  """By its type, or by its signature: optax.MultiSteps is not of that type."""
  parameters = inspect.signature(optimizer.update).parameters.values()
  return isinstance(optimizer, optax.GradientTransformationExtraArgs) or any(
    parameter.kind is parameter.VAR_KEYWORD for parameter in parameters
  )


def apply_optimizer(
  inner: optax.GradientTransformation,
  gradient: PyTree,
  state: PyTree,
  weights: PyTree,
  value: jax.Array,
  loss: Callable[[PyTree, PyTree], jax.Array],
  alpha: PyTree,
) -> tuple[PyTree, PyTree]:
  """New weights and optimiser state, with a derivative where the gradient is exactly zero too.

  Adam's root and the norm of a clip have none there, and a hypergradient through them would be NaN. The derivative is
  taken a hair's breadth beside zero instead; values are the optimiser's own.

  `value` is `loss(weights, alpha)`. An optimiser that asks for either is differentiated through them too. What it holds
  constant by itself stays so: `optax.lbfgs` is exact with `scale_init_precond=False` only.
  """

  def beside_zero(leaf):
    hair = jnp.asarray(jnp.finfo(leaf.dtype).tiny, leaf.dtype) ** 0.4  # its square is still a normal number
    return leaf + lax.stop_gradient(jnp.where(leaf == 0, hair, jnp.zeros_like(leaf)))

  def update(gradient, state, weights, value, alpha):
    return update_parameters(inner, gradient, state, weights, value=value, value_fn=lambda w: loss(w, alpha))

  exact = update(*lax.stop_gradient((gradient, state, weights, value, alpha)))
  beside = update(jax.tree.map(beside_zero, gradient), state, weights, value, alpha)
  return jax.tree.map(_with_derivative_of, exact, beside)


def _with_derivative_of(exact, beside):
  return _exact(exact, beside) if jnp.issubdtype(exact.dtype, jnp.inexact) else exact


@jax.custom_jvp
def _exact(exact, beside):
  del beside
  return exact


@_exact.defjvp
def _exact_jvp(primals, tangents):
  return _exact(*primals), tangents[1]  # itself again, for derivatives of derivatives


@contextlib.contextmanager
def explain_reverse_mode(name: str) -> Iterator[None]:
  """Inside, jax's error about a loop that has no reverse mode names the estimator and says what to do."""
  try:
    yield
  except ValueError as error:
    if "Reverse-mode differentiation does not work" not in str(error):
      raise
    raise ValueError(
      f"{name} differentiates a while loop in reverse mode, which jax cannot do. If it is the inner optimiser's line "
      "search, use forward, which is exact with it, or cg, neumann, nystrom, first_order or evolution, which do not "
      "differentiate it; if it is in a loss, use lax.scan there"
    ) from error
