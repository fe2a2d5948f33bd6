"""Linear models with one penalty per feature, learned on validation data: ridge and logistic regression."""

import jax
import jax.numpy as jnp

from ruas_jax.bilevel.problem import BilevelProblem
from ruas_jax.bilevel.problems.exact import solved_by_newton
from ruas_jax.bilevel.problems.standard import StandardProblem


def ridge(
  key: jax.Array,
  *,
  features: int = 30,
  informative: int = 5,
  examples: int = 60,
  noise: float = 1.0,
  correlation: float = 0.0,
) -> StandardProblem:
  """Mean of `1/2 (x'w - y)^2`; the inner loss adds `1/2 sum_j exp(a_j) w_j^2`. The targets depend on the first features
  only, so the penalties of the others should grow.

  Args:
    key: key of all that is drawn.
    features: number of features, of weights and of penalties.
    informative: number of features that the targets depend on.
    examples: number of training and of validation examples each.
    noise: deviation of the targets.
    correlation: correlation of neighbouring features, in [0, 1).
  """
  keys = jax.random.split(key, 3)
  train, validation, test = (
    _linear(one, count, features, informative, noise, correlation)
    for one, count in zip(keys, (examples, examples, 1000), strict=True)
  )

  def error(w, batch):
    return 0.5 * jnp.mean((batch["features"] @ w - batch["target"]) ** 2)

  def inner_loss(w, a, batch):
    return error(w, batch) + 0.5 * jnp.sum(jnp.exp(a) * w**2)

  def outer_loss(w, a, batch):
    return error(w, batch)

  gram = train["features"].T @ train["features"] / examples
  pull = train["features"].T @ train["target"] / examples
  hessian = lambda a: gram + jnp.diag(jnp.exp(a))

  def minimum(a):
    return jnp.linalg.solve(hessian(a), pull)

  def hypergradient(a):
    w = minimum(a)
    to_weights = validation["features"].T @ (validation["features"] @ w - validation["target"]) / examples
    return -jnp.exp(a) * w * jnp.linalg.solve(hessian(a), to_weights)

  return StandardProblem(
    BilevelProblem(inner_loss, outer_loss),
    train,
    validation,
    jnp.zeros(features),
    jnp.full(features, -3.0),
    value=lambda a: error(minimum(a), validation),
    hypergradient=hypergradient,
    minimum=minimum,
    measures=lambda w, a: {"test_error": error(w, test)},
  )


def logistic(
  key: jax.Array, *, features: int = 20, informative: int = 5, examples: int = 100, correlation: float = 0.0
) -> StandardProblem:
  """Mean logistic loss; the inner loss adds `1/2 sum_j exp(a_j) w_j^2`. Labels are 0 or 1 and depend on the first
  features only. `minimum` is Newton's method.

  Args:
    key: key of all that is drawn.
    features: number of features, of weights and of penalties.
    informative: number of features that the labels depend on.
    examples: number of training and of validation examples each.
    correlation: correlation of neighbouring features, in [0, 1).
  """
  keys = jax.random.split(key, 6)
  train, validation, test = (
    _labelled(_linear(one, count, features, informative, 0.0, correlation), coin)
    for one, coin, count in zip(keys[:3], keys[3:], (examples, examples, 1000), strict=True)
  )

  def error(w, batch):
    logits = batch["features"] @ w
    return jnp.mean(jax.nn.softplus(logits) - batch["target"] * logits)

  problem = BilevelProblem(
    lambda w, a, batch: error(w, batch) + 0.5 * jnp.sum(jnp.exp(a) * w**2), lambda w, a, batch: error(w, batch)
  )

  def measures(w, a):
    right = (test["features"] @ w > 0) == (test["target"] > 0.5)
    return {"test_loss": error(w, test), "test_accuracy": jnp.mean(right)}

  start = jnp.zeros(features)
  return StandardProblem(
    problem,
    train,
    validation,
    start,
    jnp.full(features, -3.0),
    **solved_by_newton(problem, train, validation, start),
    measures=measures,
  )


def _linear(key, count, features, informative, noise, correlation):
  """Features that are an autoregressive series, and targets that are a sum of the informative ones and noise."""
  keys = jax.random.split(key)
  steps = jnp.arange(features)
  covariance = correlation ** jnp.abs(steps[:, None] - steps[None])
  x = jax.random.normal(keys[0], (count, features)) @ jnp.linalg.cholesky(covariance).T
  target = x[:, :informative].sum(axis=1) + noise * jax.random.normal(keys[1], (count,))
  return {"features": x, "target": target}


def _labelled(data, key):
  chance = jax.nn.sigmoid(2 * data["target"])
  return data | {"target": jax.random.bernoulli(key, chance).astype(chance.dtype)}
