"""The exact hypergradient of unrolled inner steps with forward-over-reverse products for the second derivatives.

A step is `w' = update(g, s, w)` with `g = ∇_w inner_loss(w, alpha)`. In the backward pass, the cotangent `c` of `g` is
multiplied by the second derivatives `∂²_ww` and `∂²_wα`. They are symmetric, so both products are one directional
derivative of the gradient, `d/dε ∇_(w,α) inner_loss(w + εc, alpha)`. This avoids reverse mode over reverse mode. For an
optimiser that also uses the loss's value `l`, `update(g, s, w, l)`, the cotangent of `l` multiplies `∇_(w,α)
inner_loss`.
"""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ruas_jax.bilevel.constants import split_inexact
from ruas_jax.bilevel.inner import inner_step, one_of
from ruas_jax.bilevel.optimizer import Inner, apply_optimizer, optimizer_at, update_parameters
from ruas_jax.bilevel.problem import Estimator, HypergradientOut


def mixed_mode(*, inner: Inner, steps: int) -> Estimator:
  """The same value as `unrolled`. It stores weights and state between steps. The last step is linearised when it is
  taken, the others in the backward pass."""

  def estimate(problem, weights, alpha, inner_state, train_batches, val_batch, *, key=None):
    del key
    starts, early_losses = None, None
    early = jax.tree.map(lambda leaf: leaf[:-1], train_batches)
    if steps > 1:

      def forward(carry, batch):
        weights, state, loss = inner_step(problem, inner, carry[0], alpha, carry[1], batch)
        return (weights, state), (carry, loss)

      (weights, inner_state), (starts, early_losses) = lax.scan(forward, (weights, inner_state), early)

    last = one_of(train_batches, -1)
    reached, state, last_loss, pull_back = step_with_pullback(problem, inner, weights, alpha, inner_state, last)
    loss, (to_weights, direct) = jax.value_and_grad(problem.outer_loss, argnums=(0, 1))(reached, alpha, val_batch)
    to_state = jax.tree.map(jnp.zeros_like, split_inexact(state)[0])
    to_weights, to_state, mixed = pull_back(to_weights, to_state)
    gradient = optax.tree.add(direct, mixed)

    if steps > 1:

      def backward(carry, start_and_batch):
        to_weights, to_state, gradient = carry
        (weights, state), batch = start_and_batch
        *_, pull_back = step_with_pullback(problem, inner, weights, alpha, state, batch)
        to_weights, to_state, mixed = pull_back(to_weights, to_state)
        return (to_weights, to_state, optax.tree.add(gradient, mixed)), None

      carry = (to_weights, to_state, gradient)
      (_, _, gradient), _ = lax.scan(backward, carry, (starts, early), reverse=True)
    first_loss = last_loss if early_losses is None else early_losses[0]
    return HypergradientOut(loss, gradient, reached, state, {"inner_loss": first_loss})

  return estimate


def step_with_pullback(problem, inner, weights, alpha, state, batch):
  """One inner step: the new weights, the state, the loss before the step, and the step's pullback.

  The pullback maps cotangents of the new weights and of the new state's floating leaves to those of the old ones, and
  to this step's part of alpha's.
  """

  def inner_loss(weights, alpha):
    return problem.inner_loss(weights, alpha, batch)

  def gradients(weights):
    loss, gradient = jax.value_and_grad(inner_loss, argnums=(0, 1))(weights, alpha)
    return gradient, loss

  (gradient, alpha_gradient), second_derivative, loss = jax.linearize(gradients, weights, has_aux=True)
  (reached, new_state), pull_update = optimizer_with_pullback(inner, gradient, state, weights, loss, inner_loss, alpha)

  def pull_back(to_weights, to_state):
    to_gradient, to_state, to_weights, extras = pull_update(to_weights, to_state)
    curvature, mixed = second_derivative(to_gradient)
    to_weights = optax.tree.add(to_weights, curvature)
    if extras:
      to_value, to_alpha = extras
      to_weights = optax.tree.add_scale(to_weights, to_value, gradient)
      mixed = optax.tree.add_scale(optax.tree.add(mixed, to_alpha), to_value, alpha_gradient)
    return to_weights, to_state, mixed

  return reached, new_state, loss, pull_back


def optimizer_with_pullback(inner, gradient, state, weights, value, loss, alpha):
  """The optimiser's `(new weights, new state)`, and their pullback.

  The pullback maps cotangents of the new weights and of the new state's floating leaves to those of gradient, old state
  and old weights. It also returns those of `value` and alpha as a pair, which is empty if the optimiser uses neither
  `value` nor `loss`.
  """
  leaves, merge = split_inexact(state)

  def update(gradient, leaves, weights, value, alpha):
    weights, state = apply_optimizer(inner, gradient, merge(leaves), weights, value, loss, alpha)
    return (weights, split_inexact(state)[0]), state

  (reached, _), pull_update, new_state = jax.vjp(update, gradient, leaves, weights, value, alpha, has_aux=True)
  reads_extras = _reads_extras(inner, gradient, state, weights, value, loss, alpha)

  def pull_back(to_weights, to_state):
    *results, to_value, to_alpha = pull_update((to_weights, to_state))
    return *results, (to_value, to_alpha) if reads_extras else ()

  return (reached, new_state), pull_back


def _reads_extras(inner, gradient, state, weights, value, loss, alpha) -> bool:
  """Whether the optimiser's update depends on the loss's value, or on alpha."""

  def update(value, alpha):
    optimizer = optimizer_at(inner, alpha)
    return update_parameters(optimizer, gradient, state, weights, value=value, value_fn=lambda w: loss(w, alpha))

  jaxpr = jax.make_jaxpr(update)(value, alpha).jaxpr
  read = [id(variable) for equation in jaxpr.eqns for variable in equation.invars] + [*map(id, jaxpr.outvars)]
  return any(id(variable) in read for variable in jaxpr.invars)
