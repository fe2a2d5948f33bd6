"""Methods that differentiate the trajectory of the inner steps, with corrections of its start, end or direction.

They are meant for inner losses that have no single minimum, or are not convex; where it is strongly convex, both reach
the bilevel solution if the trajectory is long. The backward pass has one product with second derivatives per step.

Diagnostics: `outer_loss` at the end of the trajectory that is differentiated, `inner_gradient_norm` at the last step,
and iaptt's `length`, the number of inner steps that it differentiates.
"""

import jax
import jax.numpy as jnp
import optax

from ruas_jax.bilevel.solvers.rates import (
  Rate,
  add_scaled,
  descend,
  power_schedule,
  rate_at,
  require_counts,
  require_positive,
)
from ruas_jax.bilevel.solvers.solver import Method, Move


def iaptt(*, inner: Rate, inner_steps: int, initial: Rate) -> Method:
  """IAPTT-GM (Liu, Liu, Zeng, Zhang 2021): the start z of the trajectory is learned (initialisation auxiliary), and the
  trajectory is cut where the outer loss is largest (pessimistic truncation).

      w_0 = z,   w_{k+1} = w_k − ρ ∂_w g(w_k),   K = argmax_{k=1..inner_steps} f(w_k)
      (a, z) ← (a, z) − (outer, ρ_z) ∇_(a, z) f(w_K(a, z), a)

  The solver's weights are those after all inner steps. The values f(w_k) are not counted: they take no derivative.

  Args:
    inner: ρ.
    inner_steps: length of the trajectory.
    initial: ρ_z, the step size of z.
  """
  require_positive("iaptt", inner=inner, initial=initial)
  require_counts("iaptt", inner_steps=inner_steps)

  def init(oracle, point, draws):
    del oracle, draws
    return point.weights

  def step(oracle, point, draws):
    alpha, rate, loop = point.alpha, rate_at(inner, point.step), draws.loop(inner_steps)
    validation = draws.validation()

    def forward(weights, index):
      gradient = oracle.inner_gradient(weights, alpha, loop.at(index).train())
      moved = descend(weights, rate, gradient)
      value = oracle.outer_loss(moved, alpha, validation)
      return moved, (weights, moved, value, optax.tree.norm(gradient))

    indices = jnp.arange(inner_steps)
    last, (starts, reached, values, norms) = oracle.scan(forward, point.memory, indices)
    end = jnp.argmax(values)
    at = lambda tree, index: jax.tree.map(lambda leaf: leaf[index], tree)
    value, to_weights, direct = oracle.outer_gradients(at(reached, end), alpha, validation)

    def backward(count, carry):
      to_weights, direction = carry
      index = end - count
      sample = loop.at(index).train()
      image, cross = oracle.second_products(at(starts, index), alpha, sample, to_weights)
      return descend(to_weights, rate, image), descend(direction, rate, cross)

    to_start, direction = oracle.loop(end + 1, backward, (to_weights, direct))
    z = descend(point.memory, rate_at(initial, point.step), to_start)
    found = {"outer_loss": value, "inner_gradient_norm": norms[-1], "length": end + 1}
    return Move(last, direction, z, found)

  return Method(init, step)


def bda(
  *,
  inner: Rate,
  inner_steps: int,
  upper: Rate | None = None,
  share: Rate = power_schedule(0.5, 1.0),
  warm_start: bool = False,
) -> Method:
  """BDA (Liu, Mu, Yuan, Zeng, Zhang 2020): the inner steps descend both losses; the outer one's share falls.

      w_{k+1} = w_k − (μ_k s_f ∂_w f(w_k) + (1 − μ_k) s_g ∂_w g(w_k)),   a ← a − outer · ∇_a f(w_T(a), a)

  Args:
    inner: s_g.
    inner_steps: T.
    upper: s_f; None: s_g.
    share: μ_k, between 0 and 1, by the index k of the inner step from 0.
    warm_start: whether a trajectory starts where the one before ended; if not, at the solver's first weights, as in the
      paper.
  """
  upper = inner if upper is None else upper
  require_positive("bda", inner=inner, upper=upper, share=share)
  require_counts("bda", inner_steps=inner_steps)

  def init(oracle, point, draws):
    del oracle, draws
    return point.weights

  def step(oracle, point, draws):
    alpha, loop = point.alpha, draws.loop(inner_steps)
    start = point.weights if warm_start else point.memory

    def drawn(index):
      of_outer = rate_at(share, index)
      samples = loop.at(index)
      rates = of_outer * rate_at(upper, point.step), (1 - of_outer) * rate_at(inner, point.step)
      return samples.train(), samples.validation(), *rates

    def forward(weights, index):
      train, validation, outer_rate, inner_rate = drawn(index)
      gradient = oracle.inner_gradient(weights, alpha, train)
      _, to_weights, _ = oracle.outer_gradients(weights, alpha, validation)
      moved = descend(descend(weights, inner_rate, gradient), outer_rate, to_weights)
      return moved, (weights, optax.tree.norm(gradient))

    indices = jnp.arange(inner_steps)
    last, (starts, norms) = oracle.scan(forward, start, indices)
    value, to_weights, direct = oracle.outer_gradients(last, alpha, draws.validation())

    def backward(carry, inputs):
      to_weights, direction = carry
      weights, index = inputs
      train, validation, outer_rate, inner_rate = drawn(index)
      images, crosses = zip(
        oracle.second_products(weights, alpha, train, to_weights),
        oracle.outer_second_products(weights, alpha, validation, to_weights),
        strict=True,
      )
      combine = lambda tree, parts: add_scaled(add_scaled(tree, -inner_rate, parts[0]), -outer_rate, parts[1])
      return (combine(to_weights, images), combine(direction, crosses)), None

    (_, direction), _ = oracle.scan(backward, (to_weights, direct), (starts, indices), reverse=True)
    found = {"outer_loss": value, "inner_gradient_norm": norms[-1]}
    return Move(last, direction, point.memory, found)

  return Method(init, step)
