"""A quadratic problem with a known solution, of any conditioning."""

import jax
import jax.numpy as jnp

from ruas_jax.bilevel.problem import BilevelProblem
from ruas_jax.bilevel.problems.standard import StandardProblem


def quadratic(
  key: jax.Array,
  *,
  weights: int = 20,
  alpha: int = 10,
  examples: int = 64,
  condition: float = 10.0,
  alpha_condition: float = 10.0,
  noise: float = 1.0,
) -> StandardProblem:
  """Inner loss `1/2 w'Hw - w'(Ba + pull)`, outer loss `1/2 |w - target|^2 + r/2 |a - a*|^2`.

  H has eigenvalues from 1/condition to 1, and the Hessian of `value` has eigenvalues from 1/alpha_condition to 1.

  Args:
    key: key of all that is drawn.
    weights: number of weights.
    alpha: number of numbers in alpha, at most `weights`.
    examples: number of examples of each loss. They differ in `pull` and in `target`.
    condition: condition number of the inner problem.
    alpha_condition: condition number of the outer problem.
    noise: deviation of the examples from their mean, which does not depend on it.

  Raises:
    ValueError: there are more numbers in alpha than weights.
  """
  if alpha > weights:
    raise ValueError(f"quadratic: alpha = {alpha}: must be at most the number of weights, {weights}")
  keys = jax.random.split(key, 8)
  rotation = jax.random.orthogonal(keys[0], weights)
  hessian = rotation * jnp.geomspace(1 / condition, 1, weights)[None] @ rotation.T
  # The minimum is `rest + response a`; its curvature and the penalty's add up to the eigenvalues asked for.
  curvature = jnp.geomspace(1 / alpha_condition, 1, alpha)
  penalty = 0.5 / alpha_condition
  left, right = jax.random.orthogonal(keys[1], weights)[:, :alpha], jax.random.orthogonal(keys[2], alpha)
  response = left * jnp.sqrt(curvature - penalty)[None] @ right.T
  rest, best, apart = (jax.random.normal(keys[3 + i], (size,)) for i, size in enumerate((weights, alpha, weights)))
  target = rest + response @ best + apart - left @ (left.T @ apart)  # farther away, but not along the response

  def around(key, mean):
    """`[examples, weights]` with exactly this mean, but for rounding."""
    deviations = noise * jax.random.normal(key, (examples, weights))
    return mean[None] + deviations - deviations.mean(axis=0)[None]

  train = {"pull": around(keys[6], hessian @ rest)}
  validation = {"target": around(keys[7], target)}
  cross = hessian @ response

  def inner_loss(w, a, batch):
    return 0.5 * w @ hessian @ w - w @ (cross @ a + batch["pull"].mean(axis=0))

  def outer_loss(w, a, batch):
    return 0.5 * jnp.mean(jnp.sum((w[None] - batch["target"]) ** 2, axis=1)) + 0.5 * penalty * jnp.sum((a - best) ** 2)

  def minimum(a):
    return rest + response @ a

  return StandardProblem(
    BilevelProblem(inner_loss, outer_loss),
    train,
    validation,
    jnp.zeros(weights),
    jnp.zeros(alpha),
    value=lambda a: outer_loss(minimum(a), a, validation),
    hypergradient=lambda a: response.T @ (minimum(a) - target) + penalty * (a - best),
    solution=(minimum(best), best),
    minimum=minimum,
    measures=lambda w, a: {"distance": jnp.linalg.norm(a - best), "weights_distance": jnp.linalg.norm(w - minimum(a))},
  )
