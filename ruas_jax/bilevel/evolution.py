"""Evolution strategies: the hypergradient of a Gaussian-smoothed outer loss, computed from its values only."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from ruas_jax.bilevel.inner import inner_steps
from ruas_jax.bilevel.optimizer import Inner
from ruas_jax.bilevel.problem import Estimator, HypergradientOut, require_key


def evolution(*, inner: Inner, steps: int, samples: int, sigma: float) -> Estimator:
  """`1/n Σ z [F(α + σz) − F(α − σz)] / 2σ` over n = `samples` draws `z ~ N(0, I)` from `key`. F is the outer loss after
  the inner steps. The diagnostic `standard_error` is that of the whole gradient (Euclidean norm).

  Raises:
    ValueError: samples is less than 1, sigma is not positive, or (when called) there is no key.
  """
  del steps
  if samples < 1 or not sigma > 0:
    raise ValueError(f"evolution: samples must be at least 1 and sigma positive, not {samples} and {sigma}")

  def estimate(problem, weights, alpha, inner_state, train_batches, val_batch, *, key=None):
    key = require_key("evolution", key)
    center, unravel = ravel_pytree(alpha)

    def run(flat):
      alpha = unravel(flat)
      reached, state, losses = inner_steps(problem, inner, weights, alpha, inner_state, train_batches)
      return problem.outer_loss(reached, alpha, val_batch), reached, state, losses

    def pair(sample_key):
      z = jax.random.normal(sample_key, center.shape, center.dtype)
      above, below = (run(center + sign * sigma * z)[0] for sign in (1, -1))
      return z * (above - below) / (2 * sigma)

    draws = lax.map(pair, jax.random.split(key, samples))
    loss, reached, state, losses = run(center)
    variance = jnp.sum(jnp.var(draws, axis=0, ddof=1 if samples > 1 else 0))
    diagnostics = {"inner_loss": losses[0], "standard_error": jnp.sqrt(variance / samples)}
    return HypergradientOut(loss, unravel(draws.mean(axis=0)), reached, state, diagnostics)

  return estimate
