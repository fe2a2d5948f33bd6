"""A learned learning-rate schedule (Maclaurin et al. 2015): alpha is one rate for each step of training."""

import jax
import jax.numpy as jnp
from jax import lax

from ruas_jax.bilevel.problem import BilevelProblem
from ruas_jax.bilevel.problems.standard import StandardProblem


def learned_schedule(
  key: jax.Array,
  *,
  steps: int = 50,
  features: int = 20,
  batch: int = 8,
  condition: float = 30.0,
  noise: float = 0.5,
  validation: int = 200,
) -> StandardProblem:
  """Linear regression by SGD whose step t has the rate `exp(a_t)`; the outer loss is that of the last weights.

  The rate is a factor of the inner loss, so the inner optimiser has to be `optax.sgd(1.0)`. An example of `train` is
  the batch of one step, with its number `step`. Inner training takes each once, in this order: `train_batches` of an
  estimator is `jax.tree.map(lambda leaf: leaf[:, None], train)`. `minimum` is the weights after the last step; a
  minimum in the usual sense would not depend on the rates, so estimators that assume one do not apply.

  Args:
    key: key of all that is drawn.
    steps: number of inner steps, and of numbers in alpha.
    features: number of features and weights.
    batch: number of examples in the batch of a step.
    condition: condition number of the features' covariance, whose largest eigenvalue is 1.
    noise: deviation of the targets.
    validation: number of validation examples.
  """
  keys = jax.random.split(key, 5)
  truth = jax.random.normal(keys[0], (features,))
  root = jnp.geomspace(1, 1 / condition, features) ** 0.5

  def draw(features_key, noise_key, *shape):
    x = jax.random.normal(features_key, (*shape, features)) @ jnp.diag(root)
    return {"features": x, "target": x @ truth + noise * jax.random.normal(noise_key, shape)}

  train = draw(keys[1], keys[2], steps, batch) | {"step": jnp.arange(steps)}
  held = draw(keys[3], keys[4], validation)

  def outer_loss(w, a, batch):
    return 0.5 * jnp.mean((batch["features"] @ w - batch["target"]) ** 2)

  def inner_loss(w, a, batch):
    errors = 0.5 * jnp.mean((batch["features"] @ w - batch["target"]) ** 2, axis=1)
    return jnp.mean(jnp.exp(a[batch["step"]]) * errors)

  start = jnp.zeros(features)

  def gradient(w, one):
    return one["features"].T @ (one["features"] @ w - one["target"]) / one["target"].size

  def trajectory(a):
    """The last weights, and the gradient of each step `[steps, features]`."""

    def step(w, one):
      slope = gradient(w, one)
      return w - jnp.exp(a[one["step"]]) * slope, slope

    return lax.scan(step, start, train)

  def hypergradient(a):
    last, slopes = trajectory(a)

    def back(adjoint, one_and_slope):
      one, slope = one_and_slope
      rate = jnp.exp(a[one["step"]])
      product = one["features"].T @ (one["features"] @ adjoint) / one["target"].size
      return adjoint - rate * product, -rate * jnp.vdot(adjoint, slope)

    return lax.scan(back, gradient(last, held), (train, slopes), reverse=True)[1]

  return StandardProblem(
    BilevelProblem(inner_loss, outer_loss),
    train,
    held,
    start,
    jnp.full(steps, jnp.log(0.1)),
    value=lambda a: outer_loss(trajectory(a)[0], a, held),
    hypergradient=hypergradient,
    minimum=lambda a: trajectory(a)[0],
    measures=lambda w, a: {"excess_error": 0.5 * jnp.sum((root * (w - truth)) ** 2)},
  )
