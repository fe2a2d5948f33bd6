"""Bilevel problems with known hypergradients, to test estimators.

All numbers are computed with numpy in float64, and the closed forms are written in numpy: automatic differentiation is
not used here. Vectors are raveled pytrees: n weights, m numbers in alpha.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from ruas_jax.bilevel.problem import BilevelProblem, PyTree

RATE = 0.1
"""Learning rate of all inner optimisers in this file, except the one with rate zero."""
HORIZONS = (1, 5, 16)

_DECAY, _LIMIT = 0.9, 0.5
_FIRST, _SECOND, _EPSILON = 0.9, 0.999, 1e-8  # constants of optax's Adam
_Memory = tuple[tuple[Any, Any], ...]  # pairs of a value and its derivative with respect to alpha


class Inner(NamedTuple):
  """An inner optimiser in two forms: optax's, and written out with its derivative.

  Attributes:
    optimizer: optax's optimiser.
    start: `weights [n] -> memory`, pairs of a value and its derivative with respect to alpha. `start` and `update` are
      None if only problems without a closed form use the optimiser.
    update: `(count from 1, gradient [n], its derivative [n, m], memory) -> (change of weights [n], its derivative
      [n, m], memory)`.
  """

  optimizer: optax.GradientTransformation
  start: Callable[[np.ndarray], _Memory] | None = None
  update: Callable[[int, np.ndarray, np.ndarray, _Memory], tuple[np.ndarray, np.ndarray, _Memory]] | None = None


class ClosedForm(NamedTuple):
  """The known values of a problem whose inner loss is quadratic in the weights.

  Attributes:
    trajectory: `(inner, steps, last) -> (weights [n], their derivative with respect to alpha [n, m])` after `steps`
      updates of `INNERS[inner]`. Only the last `last` updates are functions of alpha. (inner, 0, 0) takes no update.
    outer_gradients: `weights [n] -> (by weights [n], by alpha [m])`, gradients of the outer loss.
    hessian: Hessian of the inner loss with respect to the weights, `[n, n]`.
    mixed: derivative of the inner loss with respect to weights and alpha, `[n, m]`.
  """

  trajectory: Callable[[str, int, int], tuple[np.ndarray, np.ndarray]]
  outer_gradients: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
  hessian: np.ndarray
  mixed: np.ndarray

  def unrolled(self, inner: str, steps: int, last: int) -> np.ndarray:
    """The hypergradient `[m]` through the last `last` of the steps; for zero steps, the direct term only."""
    weights, response = self.trajectory(inner, steps, last)
    to_weights, direct = self.outer_gradients(weights)
    return direct + response.T @ to_weights


class ReferenceProblem(NamedTuple):
  """A problem, a point in it, and the known values at that point.

  Attributes:
    name: name in the table.
    problem: the two losses.
    weights, alpha: pytrees. The optimiser's state is the result of its `init` for the weights.
    train_batches: batches with a leading axis as long as the longest horizon.
    val_batch: batch of the outer loss.
    runs: numbers of inner steps for each inner optimiser, a name in `INNERS`.
    closed_form: the closed form, if there is one.
    small: whether the weights are few and the inner loss is strictly convex in them, so that its Hessian can be
      inverted and estimates can be written out.
    fixed_points: the fixed points of alternating descent, one step of plain SGD and one of alpha. They are values of
      alpha by the kind of hypergradient: "unrolled", "first_order" or "implicit".
  """

  name: str
  problem: BilevelProblem
  weights: PyTree
  alpha: PyTree
  train_batches: PyTree
  val_batch: PyTree
  runs: Mapping[str, tuple[int, ...]]
  closed_form: ClosedForm | None = None
  small: bool = False
  fixed_points: Mapping[str, float] = {}


def reference_problems() -> list[ReferenceProblem]:
  """All problems of this file."""
  return [quadratic(), quadratic_at_rest(), darts_toy(), logistic_regression()]


def quadratic() -> ReferenceProblem:
  """Inner `1/2 w'Aw - w'(Ba + batch)`, outer `1/2 |w - batch|^2 + w'Da + |a|^2 + sum a`."""
  rng = np.random.default_rng(2)
  alpha, weights, validation = rng.normal(size=3), rng.normal(size=4), rng.normal(size=4)
  runs = {**dict.fromkeys(("sgd", "momentum", "adam"), HORIZONS), "momentum under way": (5,), "clipped sgd": (5,)}
  problem = _quadratic("quadratic", weights, alpha, rng.normal(size=(max(HORIZONS), 4)), validation, runs)
  return problem._replace(small=True)


def quadratic_at_rest() -> ReferenceProblem:
  """The quadratic problem at a point where its inner gradient is exactly zero. The norm of a clip and Adam's root have
  corners there."""
  validation = np.random.default_rng(3).normal(size=4)
  runs = dict.fromkeys(("adam", "clipped sgd"), (1,))
  return _quadratic("quadratic at rest", np.zeros(4), np.zeros(3), np.zeros((1, 4)), validation, runs)


def _quadratic(name, weights, alpha, batches, validation, runs):
  rng = np.random.default_rng(0)
  root = rng.normal(size=(4, 4))
  hessian, pull, coupling = root @ root.T / 4 + np.eye(4), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))

  def as_vectors(weights, alpha):
    return jnp.concatenate([weights["first"], weights["rest"]]), alpha["all"]

  def inner_loss(weights, alpha, batch):
    w, a = as_vectors(weights, alpha)
    return 0.5 * w @ hessian @ w - w @ (pull @ a + batch)

  def outer_loss(weights, alpha, batch):
    w, a = as_vectors(weights, alpha)
    return 0.5 * jnp.sum((w - batch) ** 2) + w @ coupling @ a + a @ a + jnp.sum(a)

  return ReferenceProblem(
    name,
    BilevelProblem(inner_loss, outer_loss),
    {"first": weights[:1], "rest": weights[1:]},
    {"all": alpha},
    batches,
    validation,
    runs,
    ClosedForm(
      _linear_trajectory(hessian, pull, weights, alpha, batches),
      lambda w: (w - validation + coupling @ alpha, coupling.T @ w + 2 * alpha + 1),
      hessian,
      -pull,
    ),
  )


def darts_toy() -> ReferenceProblem:
  """`L_val = aw - 2a + 1` and `L_train = (w - a)^2` of Liu et al. 2019 (fig. 2), with the optimum `a = w = 1`."""
  alpha, weights, batches = np.array([1.7]), np.array([-0.4]), np.zeros((1, 1))
  two = np.array([[2.0]])
  return ReferenceProblem(
    "DARTS toy",
    BilevelProblem(lambda w, a, batch: (w - a) ** 2, lambda w, a, batch: a * w - 2 * a + 1),
    weights[0],
    alpha[0],
    batches,
    np.zeros(()),
    {"sgd": (1,)},
    ClosedForm(_linear_trajectory(two, two, weights, alpha, batches), lambda w: (alpha, w - 2), two, -two),
    fixed_points={"unrolled": 2 / (1 + 2 * RATE), "first_order": 2.0, "implicit": 1.0},
  )


def logistic_regression() -> ReferenceProblem:
  """A smooth problem that is not quadratic: logistic regression with one penalty per weight, learned on other data.

  Inner: mean `softplus(-y x'w)` plus `sum exp(a) log cosh(w)`; outer: the same mean plus a cost of large penalties.
  """
  rng = np.random.default_rng(4)

  def loss(weights, batch):
    return jnp.mean(jnp.logaddexp(0.0, -batch["y"] * (batch["x"] @ weights["slope"] + weights["offset"])))

  def inner_loss(weights, alpha, batch):
    slope, offset = weights["slope"], weights["offset"]
    penalty = jnp.sum(jnp.exp(alpha["slope"]) * _log_cosh(slope)) + jnp.exp(alpha["offset"]) * _log_cosh(offset)
    return loss(weights, batch) + penalty

  def outer_loss(weights, alpha, batch):
    return loss(weights, batch) + 0.1 * jnp.sum(jnp.sin(alpha["slope"])) + 0.1 * alpha["offset"] ** 2

  def batches(count):
    return {"x": rng.normal(size=(count, 4, 3)), "y": np.sign(rng.normal(size=(count, 4)))}

  alpha = {"slope": rng.normal(size=3) - 1, "offset": np.array(-0.5)}
  weights = {"slope": rng.normal(size=3), "offset": np.array(0.7)}
  return ReferenceProblem(
    "logistic regression",
    BilevelProblem(inner_loss, outer_loss),
    weights,
    alpha,
    batches(5),
    {name: values[0] for name, values in batches(1).items()},
    {"sgd": (1,), "adam": (5,), "polyak": (5,)},
    small=True,
  )


def _log_cosh(x):
  return jnp.logaddexp(x, -x) - np.log(2)


def _linear_trajectory(hessian, pull, weights, alpha, batches):
  """Inner updates on gradients `hessian w - pull a - batch`."""

  def trajectory(inner, steps, last):
    rule = INNERS[inner]
    assert rule.start and rule.update
    w, response, memory = weights, np.zeros(pull.shape), rule.start(weights)
    for count, batch in enumerate(batches[:steps], start=1):
      if count == steps - last + 1:  # earlier steps do not depend on alpha
        response, memory = np.zeros(pull.shape), tuple((value, 0.0) for value, _ in memory)
      gradient, slope = hessian @ w - pull @ alpha - batch, hessian @ response - pull
      change, change_response, memory = rule.update(count, gradient, slope, memory)
      w, response = w + change, response + change_response
    return w, response

  return trajectory


def _heavy_ball(rate: float, decay: float = 0.0):
  def update(count, gradient, slope, memory):
    del count
    ((trace, d_trace),) = memory
    trace, d_trace = gradient + decay * trace, slope + decay * d_trace
    return -rate * trace, -rate * d_trace, ((trace, d_trace),)

  return update


def _adam(count, gradient, slope, memory):
  (first, d_first), (second, d_second) = memory
  first, d_first = _FIRST * first + (1 - _FIRST) * gradient, _FIRST * d_first + (1 - _FIRST) * slope
  second = _SECOND * second + (1 - _SECOND) * gradient**2
  d_second = _SECOND * d_second + (1 - _SECOND) * 2 * gradient[:, None] * slope
  share, d_share = first / (1 - _FIRST**count), d_first / (1 - _FIRST**count)
  root = np.sqrt(second / (1 - _SECOND**count))
  # If the root is zero, d_second is zero too. The derivative is then that of share / epsilon.
  d_root = d_second / (1 - _SECOND**count) / (2 * np.where(root > 0, root, 1))[:, None]
  below = root + _EPSILON
  change = share / below
  d_change = d_share / below[:, None] - (share / below**2)[:, None] * d_root
  return -RATE * change, -RATE * d_change, ((first, d_first), (second, d_second))


def _clipped(count, gradient, slope, memory):
  norm = np.linalg.norm(gradient)
  if norm > _LIMIT:
    slope = _LIMIT * (slope / norm - np.outer(gradient, gradient @ slope) / norm**3)
    gradient = _LIMIT * gradient / norm
  return _heavy_ball(RATE)(count, gradient, slope, memory)


def _from_zero(pairs: int):
  return lambda weights: ((0.0, 0.0),) * pairs


def _under_way(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """The optimiser with a first state whose trace is the weights themselves."""
  return optax.GradientTransformation(
    lambda params: optax.tree.set(optimizer.init(params), trace=params), optimizer.update
  )


INNERS: dict[str, Inner] = {
  "sgd": Inner(optax.sgd(RATE), _from_zero(1), _heavy_ball(RATE)),
  "sgd at rate zero": Inner(optax.sgd(0.0), _from_zero(1), _heavy_ball(0.0)),
  "momentum": Inner(optax.sgd(RATE, momentum=_DECAY), _from_zero(1), _heavy_ball(RATE, _DECAY)),
  "momentum under way": Inner(
    _under_way(optax.sgd(RATE, momentum=_DECAY)), lambda weights: ((weights, 0.0),), _heavy_ball(RATE, _DECAY)
  ),
  "adam": Inner(optax.adam(RATE, b1=_FIRST, b2=_SECOND, eps=_EPSILON), _from_zero(2), _adam),
  "polyak": Inner(optax.polyak_sgd(max_learning_rate=10.0)),  # uses the loss's value
  "clipped sgd": Inner(optax.chain(optax.clip_by_global_norm(_LIMIT), optax.sgd(RATE)), _from_zero(1), _clipped),
}
"""The inner optimisers by name."""


def ravel(tree: PyTree) -> np.ndarray:
  """A pytree as one float64 vector."""
  return np.asarray(ravel_pytree(tree)[0], np.float64)
