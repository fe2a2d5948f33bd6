"""Baselines that a search method has to beat at the same cost: random search, ageing evolution, successive halving.

    trainer = nas.Trainer(problem, train=data, batch_size=32)
    found = baselines.random_search(trainer, trainer.choices, steps=100, budget=2000)

They need `evaluate(architecture, steps) -> loss`: the validation loss after so many training steps. That is a
`nas.Trainer`, or a function that reads a table. Their cost is counted in training steps, and `budget` limits it.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.nas.architectures import Architecture

Evaluate = Callable[[Architecture, int], float]


class Trial(NamedTuple):
  """Attributes:
  architecture: the chosen operation of every choice.
  steps: training steps after which the loss was measured.
  loss: validation loss; NaN where the training failed.
  """

  architecture: Architecture
  steps: int
  loss: float


class Found(NamedTuple):
  """Attributes:
  architecture: the best architecture of those that were trained longest.
  loss: its validation loss.
  steps: training steps that were spent.
  trials: all measurements, in order.
  """

  architecture: Architecture
  loss: float
  steps: int
  trials: list[Trial]


def random_search(
  evaluate: Evaluate, choices: Sequence[int], *, steps: int, budget: int, seed: int = 0, together: int = 16
) -> Found:
  """The best of as many random architectures as the budget allows, each trained for `steps` steps.

  Args:
    evaluate: `(architecture, steps) -> validation loss`.
    choices: number of operations of every choice.
    steps: training steps of an architecture.
    budget: training steps altogether.
    seed: random seed.
    together: architectures that a `nas.Trainer` trains at once.
  """
  _check(choices, steps, budget)
  candidates = _distinct(np.random.default_rng(seed), choices, budget // steps)
  trials = []
  for first in range(0, len(candidates), together):
    trials += _evaluated(evaluate, candidates[first : first + together], steps)
  return _best(trials, len(trials) * steps)


def ageing_evolution(
  evaluate: Evaluate,
  choices: Sequence[int],
  *,
  steps: int,
  budget: int,
  population: int = 10,
  sample: int = 3,
  seed: int = 0,
  together: int = 1,
) -> Found:
  """Regularised evolution (Real et al. 2019): the best of `sample` random members of the population has a child with
  one other operation, and the oldest member dies.

  Args:
    evaluate, choices, steps, budget, seed: as in `random_search`.
    population: number of members, which begin at random.
    sample: members from which a parent is chosen.
    together: children of the same population that a `nas.Trainer` trains at once.
  """
  _check(choices, steps, budget)
  rng, most = np.random.default_rng(seed), budget // steps
  first = [_random(rng, choices) for _ in range(min(population, most))]
  trials = _evaluated(evaluate, first, steps)
  while len(trials) < most:
    living, children = trials[-population:], []
    for _ in range(min(together, most - len(trials))):
      drawn = rng.choice(len(living), size=min(sample, len(living)), replace=False)
      children.append(_mutated(rng, min((living[index] for index in drawn), key=_loss).architecture, choices))
    trials += _evaluated(evaluate, children, steps)
  return _best(trials, len(trials) * steps)


def successive_halving(
  evaluate: Evaluate, choices: Sequence[int], *, steps: int, budget: int, seed: int = 0, rungs: int = 3, factor: int = 3
) -> Found:
  """Successive halving (Jamieson and Talwalkar 2016): many architectures are trained for a few steps, the best 1 in
  `factor` for `factor` times as many, and so on; those of the last rung have `steps` steps.

  As many architectures begin as the budget allows. A training is continued, so a rung costs only its new steps.

  Args:
    evaluate, choices, steps, budget, seed: as in `random_search`.
    rungs: number of lengths of training.
    factor: ratio of two lengths, and of two numbers of architectures.
  """
  _check(choices, steps, budget)
  lengths = sorted({max(1, steps // factor**rung) for rung in range(rungs)})

  def cost(beginning: int) -> int:
    counts = [max(1, beginning // factor**rung) for rung in range(len(lengths))]
    return sum(count * (now - before) for count, now, before in zip(counts, lengths, [0, *lengths[:-1]], strict=True))

  beginning = 1
  while cost(beginning + 1) <= budget and beginning < math.prod(choices):
    beginning += 1
  alive, trials = _distinct(np.random.default_rng(seed), choices, beginning), []
  beginning = len(alive)
  for rung, length in enumerate(lengths):
    if rung:
      ranked = sorted(trials[-len(alive) :], key=_loss)
      alive = [trial.architecture for trial in ranked[: max(1, beginning // factor**rung)]]
    trials += _evaluated(evaluate, alive, length)
  return _best(trials, cost(beginning))


def _check(choices: Sequence[int], steps: int, budget: int) -> None:
  if not choices or min(choices) < 1:
    raise UserError(f"choices must be the number of operations of every choice, not {tuple(choices)}")
  if not 1 <= steps <= budget:
    raise UserError(f"steps must be at least 1 and at most the budget, {budget}, not {steps}")


def _random(rng: np.random.Generator, choices: Sequence[int]) -> Architecture:
  return tuple(int(rng.integers(count)) for count in choices)


def _distinct(rng: np.random.Generator, choices: Sequence[int], count: int) -> list[Architecture]:
  """At most `count` different random architectures."""
  found: dict[Architecture, None] = {}
  while len(found) < min(count, math.prod(choices)):
    found[_random(rng, choices)] = None
  return list(found)


def _mutated(rng: np.random.Generator, architecture: Architecture, choices: Sequence[int]) -> Architecture:
  """The architecture with another operation in one choice that has several."""
  open_choices = [index for index, count in enumerate(choices) if count > 1]
  if not open_choices:
    return architecture
  index = int(rng.choice(open_choices))
  other = (architecture[index] + int(rng.integers(1, choices[index]))) % choices[index]
  return (*architecture[:index], other, *architecture[index + 1 :])


def _evaluated(evaluate: Evaluate, architectures: Sequence[Architecture], steps: int) -> list[Trial]:
  several = getattr(evaluate, "all", None)
  losses = several(architectures, steps) if several else [evaluate(one, steps) for one in architectures]
  return [Trial(one, steps, float(loss)) for one, loss in zip(architectures, losses, strict=True)]


def _loss(trial: Trial) -> float:
  return trial.loss if math.isfinite(trial.loss) else math.inf


def _best(trials: list[Trial], steps: int) -> Found:
  longest = max(trial.steps for trial in trials)
  best = min((trial for trial in trials if trial.steps == longest), key=_loss)
  return Found(best.architecture, best.loss, steps, trials)
