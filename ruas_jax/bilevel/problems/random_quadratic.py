"""A quadratic problem whose every example has its own matrices, so that a batch has another Hessian than all data."""

import jax
import jax.numpy as jnp

from ruas_jax.bilevel.problem import BilevelProblem
from ruas_jax.bilevel.problems.standard import StandardProblem

_TRIES = 20


def random_quadratic(
  key: jax.Array,
  *,
  weights: int = 100,
  alpha: int = 100,
  examples: int = 1024,
  smallest: float = 0.1,
  largest: float = 1.0,
  cross: float = 0.1,
) -> StandardProblem:
  """Both losses are means over examples of `1/2 (u'w)^2 + 1/2 (s'a)^2 + (l'a)(r'w) + p'w + q'a`.

  The simulated quadratic problem of benchmark_bilevel (Dagréou et al. 2022), made from its description. An example's
  matrices have rank one, so it is stored as six vectors: u, r, p of the weights' length, and s, l, q of alpha's.

  Args:
    key: key of all that is drawn.
    weights: number of weights.
    alpha: number of numbers in alpha.
    examples: number of examples of each loss.
    smallest: least eigenvalue of the Hessians in the weights, in expectation. The Hessians in alpha have in addition
      one eigenvalue of zero.
    largest: largest eigenvalue of the Hessians, in expectation.
    cross: spectral norm of the mixed second derivative, in expectation.

  Raises:
    ValueError: no problem whose `value` has a minimum was found, since `cross` is too large.
  """
  for attempt in jax.random.split(key, _TRIES):
    keys = jax.random.split(attempt)
    train, validation = (_examples(one, weights, alpha, examples, smallest, largest, cross) for one in keys)
    inner, outer = _means(train), _means(validation)
    response = -jnp.linalg.solve(inner["weights"], inner["cross"].T)  # d minimum / d alpha
    mixed = outer["cross"] @ response
    curvature = response.T @ outer["weights"] @ response + outer["alpha"] + mixed + mixed.T
    if jnp.linalg.eigvalsh(curvature)[0] > 1e-6:
      break
  else:
    raise ValueError(f"random_quadratic: no problem with a minimum in {_TRIES} tries; cross = {cross} is too large")

  def minimum(a):
    return -jnp.linalg.solve(inner["weights"], inner["weights_linear"] + inner["cross"].T @ a)

  def value(a):
    w = minimum(a)
    curved = 0.5 * w @ outer["weights"] @ w + 0.5 * a @ outer["alpha"] @ a + a @ outer["cross"] @ w
    return curved + outer["weights_linear"] @ w + outer["alpha_linear"] @ a

  def hypergradient(a):
    w = minimum(a)
    to_weights = outer["weights"] @ w + outer["cross"].T @ a + outer["weights_linear"]
    return outer["alpha"] @ a + outer["cross"] @ w + outer["alpha_linear"] + response.T @ to_weights

  best = -jnp.linalg.solve(curvature, hypergradient(jnp.zeros(alpha)))
  return StandardProblem(
    BilevelProblem(_loss, _loss),
    train,
    validation,
    jnp.zeros(weights),
    jnp.full(alpha, -2.0),
    value=value,
    hypergradient=hypergradient,
    solution=(minimum(best), best),
    minimum=minimum,
    measures=lambda w, a: {"distance": jnp.linalg.norm(a - best), "weights_distance": jnp.linalg.norm(w - minimum(a))},
  )


def _loss(w, a, batch):
  curved = 0.5 * (batch["u"] @ w) ** 2 + 0.5 * (batch["s"] @ a) ** 2 + (batch["l"] @ a) * (batch["r"] @ w)
  return jnp.mean(curved + batch["p"] @ w + batch["q"] @ a)


def _examples(key, weights, alpha, examples, smallest, largest, cross):
  keys = jax.random.split(key, 9)
  root = jnp.geomspace(smallest, largest, weights) ** 0.5
  alpha_root = jnp.concatenate([jnp.zeros(1), jnp.geomspace(smallest, largest, alpha - 1) ** 0.5])
  rotation, alpha_rotation = jax.random.orthogonal(keys[0], weights), jax.random.orthogonal(keys[1], alpha)
  rank = min(weights, alpha)
  left = jax.random.orthogonal(keys[2], alpha)[:, :rank] * jnp.geomspace(min(smallest, cross), cross, rank)[None]
  right = jax.random.orthogonal(keys[3], weights)
  vectors = jax.random.normal(keys[4], (examples, weights))
  return {
    "u": jax.random.normal(keys[5], (examples, weights)) * root[None] @ rotation.T,
    "s": jax.random.normal(keys[6], (examples, alpha)) * alpha_root[None] @ alpha_rotation.T,
    "l": vectors[:, :rank] @ left.T,
    "r": vectors @ right.T,
    "p": jax.random.normal(keys[7], (examples, weights)),
    "q": jax.random.normal(keys[8], (examples, alpha)),
  }


def _means(data):
  """The matrices and vectors of the mean over all examples."""
  count = data["u"].shape[0]
  return {
    "weights": data["u"].T @ data["u"] / count,
    "alpha": data["s"].T @ data["s"] / count,
    "cross": data["l"].T @ data["r"] / count,
    "weights_linear": data["p"].mean(axis=0),
    "alpha_linear": data["q"].mean(axis=0),
  }
