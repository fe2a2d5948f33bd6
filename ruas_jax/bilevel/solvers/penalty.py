"""Methods with first derivatives only, which penalise the value function: `g(w, a) − min_w g(w, a)` is to be zero.

They assume that the inner loss is smooth and strongly convex in w (bome: that it satisfies the Polyak-Łojasiewicz
condition), and that both losses have Lipschitz continuous gradients. Their solution differs from the bilevel one:
f2sa's by a constant times 1 / λ, bome's by a constant times its step size. The difference is zero where `∂_w f` is zero
at the solution.

Diagnostics: `outer_loss`, `inner_gradient_norm`, `penalty` (λ), and `distance`, the norm of the difference of the two
sets of weights.
"""

import jax.numpy as jnp
import optax

from ruas_jax.bilevel.solvers.rates import (
  Rate,
  add_scaled,
  descend,
  rate_at,
  require_counts,
  require_positive,
)
from ruas_jax.bilevel.solvers.solver import Method, Move


def f2sa(*, inner: Rate, inner_steps: int = 1, penalty: Rate, penalised: Rate | None = None) -> Method:
  """F2SA (Kwon, Kwon, Wright, Nowak 2023): weights z that minimise g, and weights y that minimise `f + λ g`.

      z ← z − γ ∂_w g(z),   y ← y − α_y (∂_w f(y) + λ ∂_w g(y)),   inner_steps times
      a ← a − outer · (∂_a f(y) + λ (∂_a g(y) − ∂_a g(z)))

  The solver's weights are z. The schedules of the paper: λ grows as `k^(1/7)` with noise in both losses, as `k^(1/5)`
  with noise in f only, as `k^(1/3)` without noise: `power_schedule(first, -1/7)`. `∂_a g` at y and z is computed on one
  sample, so that its noise, which λ multiplies, cancels where y and z are close.

  Args:
    inner: γ.
    inner_steps: number of steps of z and y.
    penalty: λ, the value of the present step; a schedule begins with that of step 0.
    penalised: α_y, less than 2 / (L_f + λ L_g); None: `γ / (1 + λ)`.
  """
  require_positive("f2sa", inner=inner, penalty=penalty)
  require_counts("f2sa", inner_steps=inner_steps)

  def init(oracle, point, draws):
    del oracle, draws
    return point.weights

  def step(oracle, point, draws):
    alpha, rate, factor = point.alpha, rate_at(inner, point.step), rate_at(penalty, point.step)
    slow = rate / (1 + factor) if penalised is None else rate_at(penalised, point.step)
    loop = draws.loop(inner_steps)

    def iterate(index, carry):
      z, y, _ = carry
      drawn = loop.at(index)
      gradient = oracle.inner_gradient(z, alpha, drawn.train())
      of_y = oracle.inner_gradient(y, alpha, drawn.train(), advance=False)
      _, to_weights, _ = oracle.outer_gradients(y, alpha, drawn.validation())
      return (
        descend(z, rate, gradient),
        descend(y, slow, add_scaled(to_weights, factor, of_y)),
        optax.tree.norm(gradient),
      )

    start = (point.weights, point.memory, optax.tree.norm(point.weights) * 0)
    z, y, norm = oracle.loop(inner_steps, iterate, start)
    train = draws.train()
    value, _, direct = oracle.outer_gradients(y, alpha, draws.validation())
    _, at_y = oracle.inner_gradients(y, alpha, train)
    _, at_z = oracle.inner_gradients(z, alpha, train)
    direction = add_scaled(direct, factor, optax.tree.sub(at_y, at_z))
    found = {
      "outer_loss": value,
      "inner_gradient_norm": norm,
      "penalty": jnp.asarray(factor, norm.dtype),
      "distance": optax.tree.norm(optax.tree.sub(y, z)),
    }
    return Move(z, direction, y, found)

  return Method(init, step)


def bome(*, inner: Rate, inner_steps: int, weights_rate: Rate, control: Rate = 0.5) -> Method:
  """BOME (Liu, Ye, Wright, Stone, Liu 2022): descent of f whose direction must also lower `q = g(w, a) − g(w_T, a)`.

      w_T: inner_steps steps `− ρ ∂_w g` from w;   ∇q = (∂_w g(w), ∂_a g(w) − ∂_a g(w_T))
      λ = max(0, (η |∇q|² − ∇f·∇q) / |∇q|²),   (w, a) ← (w, a) − (ξ, outer) (∇f + λ ∇q)

  The derivative of w_T is left out, as in the paper. There, ξ and `outer` are one step size; it must fall, since the
  last distance to the solution is proportional to it.

  Args:
    inner: ρ.
    inner_steps: T.
    weights_rate: ξ.
    control: η, between 0 and 1.
  """
  require_positive("bome", inner=inner, weights_rate=weights_rate, control=control)
  require_counts("bome", inner_steps=inner_steps)

  def init(oracle, point, draws):
    del oracle, point, draws
    return ()

  def step(oracle, point, draws):
    weights, alpha = point.weights, point.alpha
    loop, rate = draws.loop(inner_steps), rate_at(inner, point.step)

    def iterate(index, w):
      return descend(w, rate, oracle.inner_gradient(w, alpha, loop.at(index).train()))

    lower = oracle.loop(inner_steps, iterate, weights)
    train = draws.train()
    gradient, at_weights = oracle.inner_gradients(weights, alpha, train)
    _, at_lower = oracle.inner_gradients(lower, alpha, train)
    constraint = (gradient, optax.tree.sub(at_weights, at_lower))
    value, *outer = oracle.outer_gradients(weights, alpha, draws.validation())
    outer = tuple(outer)
    square = optax.tree.norm(constraint, squared=True)
    lacking = rate_at(control, point.step) * square - optax.tree.vdot(outer, constraint)
    factor = jnp.where(square > 0, jnp.maximum(lacking, 0) / jnp.where(square > 0, square, 1), 0)
    of_weights, of_alpha = add_scaled(outer, factor, constraint)
    found = {
      "outer_loss": value,
      "inner_gradient_norm": optax.tree.norm(gradient),
      "penalty": factor,
      "distance": optax.tree.norm(optax.tree.sub(weights, lower)),
    }
    return Move(descend(weights, rate_at(weights_rate, point.step), of_weights), of_alpha, (), found)

  return Method(init, step)
