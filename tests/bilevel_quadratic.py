"""A bilevel problem of quadratic losses with its solution in closed form, to test solvers.

    g = 1/2 w'H w − w'(P a + b),   f = 1/2 |w − c|² + 1/2 |a|² + t'a

H, P, b, c and t are means over the examples of a batch. All numbers are numpy's, in float64, and no derivative is
automatic.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ruas_jax.bilevel import BilevelProblem

N_WEIGHTS, N_ALPHA, N_TRAIN, N_VALIDATION = 3, 2, 12, 8


def inner_loss(weights, alpha, batch):
  hessian, pull, shift = (batch[name].mean(0) for name in ("hessian", "pull", "shift"))
  return 0.5 * weights @ hessian @ weights - weights @ (pull @ alpha + shift)


def outer_loss(weights, alpha, batch):
  target, tilt = batch["target"].mean(0), batch["tilt"].mean(0)
  return 0.5 * jnp.sum((weights - target) ** 2) + 0.5 * alpha @ alpha + alpha @ tilt


class Quadratic(NamedTuple):
  """The problem, its data and its constants.

  Attributes:
    problem: the losses.
    train, validation: the examples.
    start: the first weights and the first alpha.
    terms: means over all examples: `{"hessian": H, "pull": P, "shift": b, "target": c, "tilt": t}`.
    smoothness, convexity: largest and smallest eigenvalue of the mean Hessian.
    outer_smoothness, outer_convexity: those of the outer loss at the inner minimum, a function of alpha.
    weights, alpha: the solution.
  """

  problem: BilevelProblem
  train: dict[str, np.ndarray]
  validation: dict[str, np.ndarray]
  start: tuple[np.ndarray, np.ndarray]
  terms: dict[str, np.ndarray]
  smoothness: float
  convexity: float
  outer_smoothness: float
  outer_convexity: float
  weights: np.ndarray
  alpha: np.ndarray

  def penalised(self, penalty: float) -> np.ndarray:
    """The alpha that minimises `min_y (f + λ g) − min_z λ g`."""
    hessian, pull, shift, target, tilt = self.terms.values()
    inverse = np.linalg.inv(np.eye(N_WEIGHTS) + penalty * hessian)
    # y − z, an affine function of alpha.
    slope = inverse @ (penalty * pull) - np.linalg.solve(hessian, pull)
    constant = inverse @ (target + penalty * shift) - np.linalg.solve(hessian, shift)
    matrix = np.eye(N_ALPHA) - penalty * pull.T @ slope
    return np.linalg.solve(matrix, penalty * pull.T @ constant - tilt)


def quadratic(spread: float = 0.3, reachable: bool = False) -> Quadratic:
  """Examples that differ by `spread`. The Hessian's eigenvalues are 1, 1.5 and 2. If reachable, the outer loss has its
  minimum over weights and alpha at the solution."""
  rng = np.random.default_rng(0)
  noise = lambda count, *shape: (lambda draws: spread * (draws - draws.mean(0)))(rng.normal(size=(count, *shape)))
  basis = np.linalg.qr(rng.normal(size=(N_WEIGHTS, N_WEIGHTS)))[0]
  hessian = basis @ np.diag([1, 1.5, 2]) @ basis.T
  pull, shift = rng.normal(size=(N_WEIGHTS, N_ALPHA)), rng.normal(size=N_WEIGHTS)
  target, tilt = rng.normal(size=N_WEIGHTS), rng.normal(size=N_ALPHA)
  slope, at_zero = np.linalg.solve(hessian, pull), np.linalg.solve(hessian, shift)
  if reachable:
    target = at_zero - slope @ tilt
  noise_of_hessian = noise(N_TRAIN, N_WEIGHTS, N_WEIGHTS)
  train = {
    "hessian": hessian + (noise_of_hessian + noise_of_hessian.transpose(0, 2, 1)) / 4,
    "pull": pull + noise(N_TRAIN, N_WEIGHTS, N_ALPHA),
    "shift": shift + noise(N_TRAIN, N_WEIGHTS),
  }
  validation = {"target": target + noise(N_VALIDATION, N_WEIGHTS), "tilt": tilt + noise(N_VALIDATION, N_ALPHA)}
  outer_hessian = slope.T @ slope + np.eye(N_ALPHA)
  alpha = np.linalg.solve(outer_hessian, slope.T @ (target - at_zero) - tilt)
  low, high = np.linalg.eigvalsh(outer_hessian)[[0, -1]]
  start = rng.normal(size=N_WEIGHTS), rng.normal(size=N_ALPHA)
  terms = {"hessian": hessian, "pull": pull, "shift": shift, "target": target, "tilt": tilt}
  problem = BilevelProblem(inner_loss, outer_loss)
  return Quadratic(problem, train, validation, start, terms, 2.0, 1.0, high, low, at_zero + slope @ alpha, alpha)
