"""One call that solves a bilevel problem: a compiled loop over the steps of a solver, and its trace."""

import functools
import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from ruas_jax.bilevel.problem import BilevelProblem, PyTree
from ruas_jax.bilevel.solvers.rates import require_counts
from ruas_jax.bilevel.solvers.registry import make_solver
from ruas_jax.bilevel.solvers.sampling import Data
from ruas_jax.bilevel.solvers.solver import SolverState

_FIRST = 10  # steps whose inner gradients are the measure of the later ones
_GROWTH = 1e3  # of the inner gradient's norm, beyond which a run has diverged

Trace = Callable[[PyTree, PyTree], dict[str, jax.Array]]


class SolverError(RuntimeError):
  """A run that has failed. The message is one line that says where and what to do."""


class Solution(NamedTuple):
  """The result of `solve`.

  Attributes:
    weights, alpha: the last point.
    trace: for each diagnostic its value in every step, `[steps]`, numpy. The counts are those of the step.
    state: the solver's last state; `solver.step` goes on from it.
  """

  weights: PyTree
  alpha: PyTree
  trace: dict[str, np.ndarray]
  state: SolverState


def solve(
  problem: BilevelProblem,
  weights: PyTree,
  alpha: PyTree,
  train: PyTree,
  validation: PyTree,
  *,
  method: str = "soba",
  steps: int,
  seed: int = 0,
  collection: PyTree = None,
  trace: Trace | None = None,
  callback: Callable[[SolverState], bool | None] | None = None,
  every: int = 100,
  strict: bool = True,
  **options,
) -> Solution:
  """Takes `steps` steps of a method.

  Args:
    problem: the problem.
    weights, alpha: the first point.
    train, validation: the examples of the inner and of the outer loss, with a leading axis.
    method: a name in `SOLVERS`.
    steps: number of steps.
    seed: seed of minibatches and of the losses' keys.
    collection: first value of the mutable collection, if the inner loss has a parameter `collection`.
    trace: `(weights, alpha) -> {name: []}`, inside jit, after each step; its values join the diagnostics and need
      other names.
    callback: receives the state after every `every` steps; the run ends early if it returns True.
    every: number of steps in one call of the compiled program.
    strict: whether an indefinite Hessian or a diverging run is an error. If not, only the trace tells.
    options: options of `make_solver`.

  Raises:
    SolverError: numbers are not finite, the inner gradient has grown a thousandfold, or the inner loss has a negative
      curvature, if `strict`.
    ValueError, TypeError, ProblemError: those of `make_solver`.
  """
  require_counts(None, steps=steps, every=every)
  solver, data = make_solver(method, problem, **options), Data(train, validation)

  @functools.partial(jax.jit, static_argnums=2)
  def run(state, data, length):
    def body(state, _):
      state = solver.step(state, data)
      return state, _joined(state.diagnostics, trace(state.weights, state.alpha) if trace else {})

    return lax.scan(body, state, length=length)

  state = jax.jit(solver.init)(weights, alpha, data, jax.random.key(seed), collection)
  parts = []
  for start in range(0, steps, every):
    state, part = run(state, data, min(every, steps - start))
    parts.append(jax.tree.map(np.asarray, part))
    if strict:
      _check(method, parts, start, state)
    if callback and callback(state):
      break
  joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
  if "converged" in joined and not joined["converged"][-1]:
    warnings.warn(
      f"method {method}: the linear system had not converged in the last step (residual "
      f"{joined['residual'][-1]:.2g}); give it more iterations",
      stacklevel=2,
    )
  return Solution(state.weights, state.alpha, joined, state)


def _joined(diagnostics, values):
  for name in values:
    if name in diagnostics:
      raise ValueError(f"trace returns {name!r}, which is the name of a diagnostic; choose another")
  return diagnostics | values


def _check(method, parts, start, state):
  """Raises SolverError for the last part of a run, which begins after `start` steps."""
  part = parts[-1]
  if not part["finite"].all():
    step = start + int(np.argmin(part["finite"])) + 1
    names = [name for name, tree in (("weights", state.weights), ("alpha", state.alpha)) for name in _bad(name, tree)]
    raise SolverError(
      f"method {method} diverged: {names[0] if names else 'a number'} is not finite after step {step}; lower the step "
      "sizes `inner` (less than 2 / L for a smoothness L of the inner loss) or `outer`"
    )
  if "indefinite" in part and part["indefinite"].any():
    index = int(np.argmax(part["indefinite"]))
    curvature = f" ({part['curvature'][index]:.3g})" if "curvature" in part else ""
    raise SolverError(
      f"method {method}: the inner loss has a negative curvature{curvature} in step {start + index + 1}, so its "
      "Hessian is indefinite and the hypergradient undefined; make it strongly convex, for example by a penalty on the "
      "weights, or pass strict=False"
    )
  if "inner_gradient_norm" in part:
    norms = np.concatenate([each["inner_gradient_norm"] for each in parts])
    floating = [leaf for leaf in jax.tree.leaves(state.weights) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    rounding = max(float(jnp.finfo(leaf.dtype).eps) ** 0.5 for leaf in floating) * (
      1 + float(optax.tree.norm(floating))
    )
    before, later = norms[:_FIRST].max(), norms[_FIRST:]
    if later.size and later.max() > _GROWTH * max(before, rounding):
      raise SolverError(
        f"method {method} diverges: the inner gradient's norm has grown from {before:.3g} to {later.max():.3g} by step "
        f"{_FIRST + int(np.argmax(later)) + 1}; lower the step sizes `inner` (less than 2 / L for a smoothness L "
        "of the inner loss) or `outer`"
      )


def _bad(name, tree):
  """Names of the leaves that are not finite."""
  for path, leaf in jax.tree.leaves_with_path(tree):
    if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(np.asarray(leaf, np.float64)).all():
      yield f"{name}{jax.tree_util.keystr(path)}"
