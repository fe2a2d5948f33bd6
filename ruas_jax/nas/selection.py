"""From the last mixing weights to an architecture.

argmax        the strongest operation of every choice
sample        a draw with the mixing weights as probabilities
budget        the strongest within limits on the problem's costs
perturbation  for one choice after another, the operation whose removal raises the validation loss most; the weights
              are tuned in between (DARTS-PT, Wang et al., ICLR 2021)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ruas_jax.bilevel import split_inexact
from ruas_jax.engine.progress import progress
from ruas_jax.errors import UserError
from ruas_jax.nas.architectures import Architecture, one_hot_shares
from ruas_jax.nas.options import SearchOptions, limits_of
from ruas_jax.nas.problem import SearchProblem
from ruas_jax.nas.schedule import moment
from ruas_jax.nas.state import SearchState
from ruas_jax.nas.training import Trainer, TrainingState

CostsOf = Callable[[Sequence[Architecture]], Mapping[str, Sequence[float] | np.ndarray]]


def select(
  problem: SearchProblem, options: SearchOptions, state: SearchState, make_trainer: Callable[[], Trainer], seed: int
) -> Any:
  """What `derive` receives: alpha itself for argmax, else the one-hot mixing weights of the selected architecture.

  Raises:
    UserError: no architecture is within the budget.
  """
  name = options.parts.selection
  if name == "argmax":
    return state.alpha
  now = moment(problem, options, state.step, problem.hyper)  # the search may have stopped early
  shares = jax.device_get(now.relaxation.mean(state.alpha))
  rng = np.random.default_rng([seed, 1])
  if name == "sample":
    chosen = sampled(rows_of(shares), rng)
  elif name == "budget":
    chosen = within(limits_of(options.parts), rows_of(shares), _costs_of(problem, state.alpha))
  else:
    chosen = by_perturbation(make_trainer(), state, shares, options.parts.tuning_steps, rng)
  return one_hot_shares(state.alpha, chosen)


def rows_of(shares: Any) -> list[np.ndarray]:
  """The mixing weights of every choice, `[O]` each."""
  leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(split_inexact(shares)[0])]
  return [row for leaf in leaves for row in leaf.reshape(-1, leaf.shape[-1])]


def sampled(rows: Sequence[np.ndarray], rng: np.random.Generator) -> Architecture:
  """An operation for every choice, drawn with probabilities that are proportional to the mixing weights."""
  rows = [np.asarray(row, np.float64) for row in rows]
  return tuple(int(rng.choice(len(row), p=row / row.sum())) for row in rows)


def within(limits: Mapping[str, float], rows: Sequence[np.ndarray], costs_of: CostsOf) -> Architecture:
  """The strongest operation of every choice, made cheaper until every cost is within its limit.

  Each step exchanges the operation of one choice: the exchange that loses the least mixing weight per cost saved. Costs
  are counted relative to their limits, and one that is within its limit stays so.

  Args:
    limits: largest cost, by name.
    rows: mixing weights of every choice.
    costs_of: the costs of some architectures, by name.

  Raises:
    UserError: no exchange makes an architecture cheaper that is above a limit.
  """
  chosen = tuple(int(np.argmax(row)) for row in rows)
  limit = np.array([*limits.values()], np.float64)

  def costs(architectures):
    found = costs_of(architectures)
    return np.stack([np.asarray(found[name], np.float64) for name in limits], axis=-1)

  while (above := (present := costs([chosen])[0]) > limit).any():
    exchanges = [
      (index, other) for index, row in enumerate(rows) for other in range(len(row)) if other != chosen[index]
    ]
    candidates = [(*chosen[:index], other, *chosen[index + 1 :]) for index, other in exchanges]
    after = costs(candidates)
    saved = ((present - after) / np.maximum(limit, 1e-300))[:, above].sum(axis=-1)
    possible = (saved > 0) & (after <= limit)[:, ~above].all(axis=-1)
    if not possible.any():
      name = next(name for name, is_above in zip(limits, above, strict=True) if is_above)
      least = present[[*limits].index(name)]
      raise UserError(
        f"`search.budget` {name}={limits[name]:g}: no exchange of an operation gets below {least:g}; allow that much"
      )
    lost = np.array([rows[index][chosen[index]] - rows[index][other] for index, other in exchanges])
    chosen = candidates[int(np.argmin(np.where(possible, lost / np.where(possible, saved, 1), np.inf)))]
  return chosen


def by_perturbation(
  trainer: Trainer, state: SearchState, shares: Any, tuning_steps: int, rng: np.random.Generator
) -> Architecture:
  """DARTS-PT, in a random order of the choices. An operation is removed by setting its mixing weight to zero."""
  leaves, structure = jax.tree.flatten(shares)
  leaves = [np.array(leaf) for leaf in leaves]
  floating = [leaf for leaf in leaves if np.issubdtype(leaf.dtype, np.inexact)]
  rows = [row for leaf in floating for row in leaf.reshape(-1, leaf.shape[-1])]  # views, which are changed in place
  training = TrainingState(state.step, state.weights, state.weight_state, shares)
  chosen = [0] * len(rows)
  with progress(len(rows), "select") as bar:
    for count, index in enumerate(rng.permutation(len(rows)), start=1):
      row, without = rows[index], []
      for operation, share in enumerate(row.copy()):
        row[operation] = 0
        without.append(training._replace(shares=structure.unflatten([leaf.copy() for leaf in leaves])))
        row[operation] = share
      losses = trainer.losses(without)
      chosen[index] = int(np.argmax(np.where(np.isfinite(losses), losses, np.inf)))
      row[:] = np.eye(len(row))[chosen[index]]
      training = training._replace(shares=structure.unflatten([leaf.copy() for leaf in leaves]))
      if count < len(rows) and tuning_steps:
        training = trainer.advance([training], tuning_steps)[0]
      bar.update(count)
  return tuple(chosen)


def _costs_of(problem: SearchProblem, alpha: Any) -> CostsOf:
  of_one = lambda architecture: {
    name: cost(one_hot_shares(alpha, architecture)) for name, cost in problem.costs.items()
  }
  of_all = jax.jit(lambda architectures: jax.lax.map(of_one, architectures))
  return lambda architectures: jax.device_get(of_all(np.array(architectures, np.int32)))
