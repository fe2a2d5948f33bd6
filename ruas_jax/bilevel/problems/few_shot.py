"""Few-shot regression of sinusoids (Finn et al. 2017): a network learns features from which few examples are enough."""

import jax
import jax.numpy as jnp

from ruas_jax.bilevel.problem import BilevelProblem
from ruas_jax.bilevel.problems.exact import exact_functions, newton
from ruas_jax.bilevel.problems.models import affine
from ruas_jax.bilevel.problems.standard import StandardProblem

_HIGHEST = 5.0  # of the inputs' size and of the amplitude, as in the paper


def few_shot(
  key: jax.Array, *, tasks: int = 25, shots: int = 10, queries: int = 10, features: int = 12, penalty: float = 1e-2
) -> StandardProblem:
  """An example is a task: `shots` points of a sinusoid with its amplitude and phase, and `queries` others.

  Alpha is a network of two `tanh` layers and the start of the last layer. The weights `[tasks, features + 1]` are the
  last layers of all tasks, each fitted to its shots with `penalty/2 |w - start|^2`. The outer loss is the mean squared
  error on the queries. `measures` is that error on new tasks, fitted in the same way.

  Args:
    key: key of all that is drawn.
    tasks: number of tasks.
    shots: number of points for the inner loss of a task.
    queries: number of points for its outer loss.
    features: width of both layers.
    penalty: penalty of a last layer's distance from the start.
  """
  keys = jax.random.split(key, 4)
  train, validation = _tasks(keys[0], tasks, shots, queries)
  new = _tasks(keys[1], 100, shots, queries)
  alpha = {
    "first": jax.random.normal(keys[2], (2, features)),
    "second": jax.random.normal(keys[3], (features + 1, features)) / features**0.5,
    "start": jnp.zeros(features + 1),
  }

  def error(head, a, one):
    hidden = jnp.tanh(affine(a["second"], jnp.tanh(affine(a["first"], one["x"][:, None]))))
    return jnp.mean((affine(head[:, None], hidden)[:, 0] - one["y"]) ** 2)

  def fitted(head, a, one):
    return error(head, a, one) + 0.5 * penalty * jnp.sum((head - a["start"]) ** 2)

  def outer_loss(w, a, batch):
    return jnp.mean(jax.vmap(error, in_axes=(0, None, 0))(w[batch["task"]], a, batch))

  def inner_loss(w, a, batch):
    return jnp.mean(jax.vmap(fitted, in_axes=(0, None, 0))(w[batch["task"]], a, batch))

  def adapt(a, data):
    """The best last layer of each task."""
    return jax.vmap(lambda one: newton(lambda head: fitted(head, a, one), a["start"]))(data)

  problem, minimum = BilevelProblem(inner_loss, outer_loss), lambda a: adapt(a, train)
  value, hypergradient = exact_functions(problem, minimum, train, validation)
  return StandardProblem(
    problem,
    train,
    validation,
    jnp.zeros((tasks, features + 1)),
    alpha,
    value,
    hypergradient,
    minimum=minimum,
    measures=lambda w, a: {"new_task_error": outer_loss(adapt(a, new[0]), a, new[1])},
  )


def _tasks(key, tasks, shots, queries):
  """Shots and queries of the same tasks."""
  keys = jax.random.split(key, 4)
  amplitude = jax.random.uniform(keys[0], (tasks, 1), minval=0.1, maxval=_HIGHEST)
  phase = jax.random.uniform(keys[1], (tasks, 1), maxval=jnp.pi)

  def draw(key, count):
    x = jax.random.uniform(key, (tasks, count), minval=-_HIGHEST, maxval=_HIGHEST)
    return {"x": x, "y": amplitude * jnp.sin(x + phase), "task": jnp.arange(tasks)}

  return draw(keys[2], shots), draw(keys[3], queries)
