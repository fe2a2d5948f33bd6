"""Baselines of a search: their cost, what they find in a table, and the training of single architectures."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy_choices

from ruas_jax import nas
from ruas_jax.errors import UserError
from ruas_jax.nas import baselines
from ruas_jax.nas.architectures import architecture_of, choices_of, one_hot_shares

pytestmark = pytest.mark.usefixtures("x64_module")

CHOICES = (3, 2, 4, 3)
HARD = {(2, 1, 3, 0): 0.0}  # the best


class Table:
  """Losses of all architectures, the distance from the best; short trainings say less. It counts what is asked."""

  def __init__(self):
    self.asked = []

  def __call__(self, architecture, steps):
    self.asked.append((architecture, steps))
    distance = sum(one != other for one, other in zip(architecture, next(iter(HARD)), strict=True))
    return distance + 1 / steps


def test_random_search_tries_different_architectures_within_its_budget():
  table = Table()
  found = baselines.random_search(table, CHOICES, steps=10, budget=209)
  assert found.steps == 200 and len(table.asked) == len(set(table.asked)) == 20
  assert found.loss == min(trial.loss for trial in found.trials)
  assert table(found.architecture, 10) == found.loss
  everything = baselines.random_search(Table(), CHOICES, steps=10, budget=10**4)
  assert everything.steps == 10 * math.prod(CHOICES) and everything.architecture in HARD
  assert baselines.random_search(Table(), CHOICES, steps=10, budget=50, seed=1) != baselines.random_search(
    Table(), CHOICES, steps=10, budget=50, seed=2
  )


def test_evolution_mutates_one_choice_of_a_good_member_and_forgets_the_oldest():
  table = Table()
  found = baselines.ageing_evolution(table, CHOICES, steps=10, budget=400, population=6, sample=3)
  assert found.steps == 400 and found.architecture in HARD
  trials = [trial.architecture for trial in found.trials]
  for index, child in enumerate(trials[6:], start=6):
    distances = [sum(map(lambda a, b: a != b, child, parent)) for parent in trials[index - 6 : index]]
    assert min(distances) <= 1, "a parent is one of the six youngest"
  losses = [trial.loss for trial in found.trials]
  assert np.mean(losses[-10:]) < np.mean(losses[:6])
  ill = lambda architecture, steps: float("nan") if architecture[0] != 2 else Table()(architecture, steps)
  assert baselines.ageing_evolution(ill, CHOICES, steps=1, budget=40).architecture[0] == 2


def test_successive_halving_trains_the_better_ones_longer():
  table = Table()
  found = baselines.successive_halving(table, CHOICES, steps=90, budget=1500, rungs=3, factor=3)
  lengths = [steps for _, steps in table.asked]
  counts = [lengths.count(length) for length in (10, 30, 90)]
  assert sum(counts) == len(lengths) and counts[1] == counts[0] // 3 and counts[2] == counts[0] // 9
  assert found.steps == counts[0] * 10 + counts[1] * 20 + counts[2] * 60 <= 1500
  more = [counts[0] + 1, (counts[0] + 1) // 3, (counts[0] + 1) // 9]
  assert more[0] * 10 + more[1] * 20 + more[2] * 60 > 1500
  of_rung = [[trial for trial in found.trials if trial.steps == length] for length in (10, 30)]
  kept = {trial.architecture for trial in of_rung[1]}
  worst_kept = max(trial.loss for trial in of_rung[0] if trial.architecture in kept)
  assert all(trial.loss >= worst_kept for trial in of_rung[0] if trial.architecture not in kept)
  assert found.architecture in {trial.architecture for trial in found.trials if trial.steps == 90}


def test_architectures_and_mixing_weights_are_the_same_thing():
  alpha = {"a": jnp.zeros((2, 2, 3)), "b": jnp.zeros((1, 4)), "count": jnp.array(3)}
  assert choices_of(alpha) == (3, 3, 3, 3, 4)
  for architecture in itertools.islice(itertools.product(*map(range, choices_of(alpha))), 0, None, 97):
    shares = one_hot_shares(alpha, architecture)
    assert architecture_of(shares) == architecture and shares["count"] == 3
    assert all(float(leaf.sum(axis=-1).min()) == float(leaf.max()) == 1 for leaf in (shares["a"], shares["b"]))
  with pytest.raises(UserError, match="has 5 numbers"):
    one_hot_shares(alpha, (0, 1))


RATE = 0.02
WHOLE = 64  # a batch with all data, so that its order does not matter


def trainer(error=toy_choices.error, **others):
  return nas.Trainer(
    toy_choices.problem(error),
    train=toy_choices.data(),
    validation=toy_choices.data(seed=1),
    batch_size=WHOLE,
    weight_optimizer=optax.sgd(RATE),
    validation_batches=1,
    **others,
  )


def by_hand(architecture, steps):
  shares = {"rows": np.eye(3)[list(architecture)]}
  weights = {"scale": jnp.ones((3, 3))}
  slope = jax.jit(jax.grad(toy_choices.error))
  for _ in range(steps):
    weights = jax.tree.map(lambda w, g: w - RATE * g, weights, slope(weights, shares, toy_choices.data()))
  return float(toy_choices.error(weights, shares, toy_choices.data(seed=1)))


def test_a_trainer_trains_the_weights_of_an_architecture():
  """Several in one program, alone, and continued: always the formulas."""
  train = trainer()
  assert train.choices == (3, 3, 3)
  chosen = [(2, 0, 1), (0, 0, 0), (1, 2, 0)]
  expected = [by_hand(architecture, 6) for architecture in chosen]
  assert train.all(chosen, 2) == pytest.approx([by_hand(architecture, 2) for architecture in chosen], rel=1e-9)
  assert train.all(chosen, 6) == pytest.approx(expected, rel=1e-9) and train.steps == 18
  assert train(chosen[1], 6) == pytest.approx(expected[1], rel=1e-9) and train.steps == 18  # it was there already
  assert train(chosen[2], 6) == pytest.approx(expected[2], rel=1e-9) and train.steps == 24


def test_a_training_that_failed_does_not_start_the_others_anew():
  def error(weights, shares, batch):
    is_ill = shares["rows"][0, 1] > 0.5
    return jnp.where(is_ill, jnp.nan, toy_choices.error(weights, shares, batch))

  train, chosen = trainer(error=error), [(2, 0, 1), (1, 2, 0), (0, 0, 0)]
  for steps, taken in ((2, 6), (6, 14)):
    first, ill, last = train.all(chosen, steps)
    assert math.isnan(ill) and train.steps == taken  # the failed one is not tried again
    assert [first, last] == pytest.approx([by_hand(chosen[0], steps), by_hand(chosen[2], steps)], rel=1e-9)


def test_baselines_run_on_a_search_problem():
  """All find the plainly best operations, or nearly."""
  train = trainer()
  found = baselines.random_search(train, train.choices, steps=6, budget=27 * 6, together=9)
  assert list(found.architecture) == toy_choices.BEST and train.steps == found.steps == 27 * 6
  again = trainer()
  found = baselines.successive_halving(again, again.choices, steps=6, budget=60, rungs=2)
  assert again.steps == found.steps <= 60


def test_what_cannot_be_a_baseline_is_one_line():
  table = Table()
  with pytest.raises(UserError, match=r"^steps must be at least 1 and at most the budget, 5, not 10$"):
    baselines.random_search(table, CHOICES, steps=10, budget=5)
  with pytest.raises(UserError, match=r"^choices must be the number of operations"):
    baselines.ageing_evolution(table, (), steps=1, budget=5)
  player = nas.Player("cell", nas.BilevelProblem(toy_choices.error, toy_choices.error))
  with pytest.raises(UserError, match=r"^player 'cell' is not relaxed, so a single architecture cannot be trained"):
    nas.Trainer(nas.SearchProblem(toy_choices.init, [player]), train=toy_choices.data())
