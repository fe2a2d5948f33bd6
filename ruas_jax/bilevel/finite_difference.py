"""The estimate of DARTS (Liu et al. 2019, eq. 8): one inner step, with a central difference for second derivatives."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ruas_jax.bilevel.constants import split_inexact
from ruas_jax.bilevel.inner import one_of
from ruas_jax.bilevel.mixed_mode import optimizer_with_pullback
from ruas_jax.bilevel.optimizer import Inner
from ruas_jax.bilevel.problem import Estimator, HypergradientOut

EpsilonRule = Literal["relative", "absolute"]
HvpLoss = Literal["inner", "outer_on_train_batch"]


def finite_difference(
  *,
  inner: Inner,
  steps: int,
  epsilon: float | jax.Array = 0.01,
  epsilon_rule: EpsilonRule = "relative",
  hvp_loss: HvpLoss = "inner",
) -> Estimator:
  """`∂_α L_out(w′) + [∇_α L_in(w + hc) − ∇_α L_in(w − hc)] / 2h`, where `c` is the optimiser's update for the gradient
  `∇_w′ L_out`: `−rate · ∇_w′ L_out` for plain SGD. For an optimiser that uses the loss's value, its effect is added.

  Args:
    inner: the inner optimiser.
    steps: must be 1; the estimate is defined only for one step.
    epsilon: size of the difference. It may be traced, so that one program works for many values.
    epsilon_rule: relative: `h = epsilon / ||c||`, as in DARTS; absolute: `h = epsilon`.
    hvp_loss: loss for the difference, on the train batch: inner; or the outer one, as in RUAS's released code.

  Raises:
    ValueError: there is more than one step, epsilon is not positive, or a word is unknown.
  """
  if steps != 1:
    raise ValueError(f"finite_difference is defined for one inner step, not {steps}")
  if isinstance(epsilon, int | float) and not epsilon > 0:
    raise ValueError(f"finite_difference: epsilon must be positive, not {epsilon}")
  if epsilon_rule not in ("relative", "absolute"):
    raise ValueError(f"finite_difference: epsilon_rule must be relative or absolute, not {epsilon_rule!r}")
  if hvp_loss not in ("inner", "outer_on_train_batch"):
    raise ValueError(f"finite_difference: hvp_loss must be inner or outer_on_train_batch, not {hvp_loss!r}")

  def estimate(problem, weights, alpha, inner_state, train_batches, val_batch, *, key=None):
    del key
    batch = one_of(train_batches, 0)
    at_batch = lambda weights, alpha: problem.inner_loss(weights, alpha, batch)
    inner_loss, gradient = jax.value_and_grad(at_batch)(weights, alpha)
    (reached, state), pull_update = optimizer_with_pullback(
      inner, gradient, inner_state, weights, inner_loss, at_batch, alpha
    )
    loss, (to_weights, direct) = jax.value_and_grad(problem.outer_loss, argnums=(0, 1))(reached, alpha, val_batch)
    direction, _, _, extras = pull_update(to_weights, jax.tree.map(jnp.zeros_like, split_inexact(state)[0]))
    width = _width(epsilon, epsilon_rule, optax.tree.norm(direction))
    differenced = problem.inner_loss if hvp_loss == "inner" else problem.outer_loss

    def alpha_gradient(signed_width):  # at one side of the difference
      aside = jax.tree.map(lambda leaf, to: leaf + signed_width.astype(leaf.dtype) * to, weights, direction)
      return jax.grad(differenced, argnums=1)(aside, alpha, batch)

    sides = lax.map(alpha_gradient, jnp.stack([width, -width]))  # a loop: compiled once
    mixed = jax.tree.map(lambda side: _central_difference(side, width.astype(side.dtype)), sides)
    if extras:
      to_value, to_alpha = extras
      mixed = optax.tree.add_scale(optax.tree.add(mixed, to_alpha), to_value, jax.grad(at_batch, 1)(weights, alpha))
    return HypergradientOut(loss, optax.tree.add(direct, mixed), reached, state, {"inner_loss": inner_loss})

  return estimate


def _width(epsilon: float | jax.Array, rule: EpsilonRule, norm: jax.Array) -> jax.Array:
  """h for a direction with this norm. If the norm is zero, both sides are equal for every h."""
  if rule == "absolute":
    return jnp.full_like(norm, epsilon)
  return epsilon / jnp.where(norm > 0, norm, jnp.ones_like(norm))


def _central_difference(sides: jax.Array, width: jax.Array) -> jax.Array:
  """The central difference of the values `[2, ...]` at plus and minus `width`."""
  return (sides[0] - sides[1]) / (2 * width)
