"""Training architectures: the supernet's weights at the one-hot mixing weights of each, many architectures in one
program. The architecture is data, so one compilation serves all of them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ruas_jax.bilevel import BilevelProblem, init_optimizer, inner_step
from ruas_jax.bilevel.losses import wrap
from ruas_jax.engine.device_loop import DeviceLoop, Run
from ruas_jax.engine.feed import Reading, open_feed, open_population_feed
from ruas_jax.engine.mesh import Layout
from ruas_jax.engine.metrics import Metrics, StepMetrics
from ruas_jax.engine.seeding import seeded
from ruas_jax.errors import UserError
from ruas_jax.nas.architectures import Architecture, choices_of, one_hot_shares
from ruas_jax.nas.data import check_data, open_data
from ruas_jax.nas.losses import naming
from ruas_jax.nas.options import WEIGHT_OPTIMIZER
from ruas_jax.nas.problem import Player, SearchProblem
from ruas_jax.nas.state import MakeOptimizer, Optimizers
from ruas_jax.optimizers import make_optimizer


class TrainingState(NamedTuple):
  """Attributes:
  step: `[]` int32, number of steps done.
  weights: weights of the supernet.
  weight_state: optimiser states, by player.
  shares: the mixing weights, which stay as they are.
  """

  step: jax.Array
  weights: Any
  weight_state: dict[str, Any]
  shares: Any


def make_training_step(problem: SearchProblem, optimizers: Optimizers) -> Callable:
  """`step(state, train, key, hyper) -> (state, Metrics)`, not jitted: one step of every player's weights on its inner
  loss, at fixed mixing weights. `train` is a raw batch `[B, ...]`."""

  def step(state: TrainingState, train: Any, key: jax.Array, hyper: Any) -> tuple[TrainingState, Metrics]:
    of_weights, _ = optimizers.at(hyper)
    step_key = jax.random.fold_in(key, state.step)
    metrics = {}
    for position, player in enumerate(problem.players):
      with naming(player.name):
        batch, bilevel = prepared(problem, player, state, train, jax.random.fold_in(step_key, position), hyper)
        own, own_state = player.pick(state.weights), state.weight_state[player.name]
        shares = player.pick(state.shares)
        weights, own_state, loss = inner_step(bilevel, of_weights, own, shares, own_state, batch)
      state = state._replace(
        weights=player.merge(state.weights, weights), weight_state=state.weight_state | {player.name: own_state}
      )
      metrics[player.name] = StepMetrics({"train": loss})
    return state._replace(step=state.step + 1), metrics

  return step


def validation_loss(problem: SearchProblem, state: TrainingState, raw: Any, key: jax.Array, hyper: Any) -> jax.Array:
  """The sum of all players' outer losses on one raw batch."""
  total = jnp.zeros(())
  for position, player in enumerate(problem.players):
    with naming(player.name):
      batch, bilevel = prepared(problem, player, state, raw, jax.random.fold_in(key, position), hyper)
      total += bilevel.outer_loss(player.pick(state.weights), player.pick(state.shares), batch)
  return total


def prepared(
  problem: SearchProblem, player: Player, state: TrainingState, raw: Any, key: jax.Array, hyper: Any
) -> tuple[Any, BilevelProblem]:
  """The batch as the losses get it, and the player's losses of mixing weights."""
  sample_key, loss_key = jax.random.split(key)
  batch = problem.sample(raw, sample_key)
  bilevel = wrap(player.given_problem(state.weights, state.shares, hyper))
  return (batch, loss_key) if bilevel.inner_loss.keyed else batch, bilevel


class Trainer:
  """Trains architectures of a search problem from the same first weights, on the same batches.

  Calling it trains one: `trainer(architecture, steps)` is its validation loss after so many steps. `all` trains several
  at once. An architecture of the last call is continued where it was left, if it is asked for more steps. The data must
  fit into device memory.

  Attributes:
    choices: number of operations of every choice.
    steps: training steps that were taken, all architectures together.
  """

  def __init__(
    self,
    problem: SearchProblem,
    *,
    train: Any,
    validation: Any | None = None,
    batch_size: int = 1,
    seed: int = 0,
    weight_optimizer: optax.GradientTransformation | MakeOptimizer | None = None,
    validation_batches: int = 8,
    repeat: bool = False,
  ):
    """The arguments of `search`. The validation loss is the mean of the players' summed outer losses over
    `validation_batches` batches, the same for every architecture.

    Raises:
      UserError: a player is not relaxed, or the data do not fit.
    """
    for player in problem.players:
      if not player.relaxed:
        raise UserError(
          f"player {player.name!r} is not relaxed, so a single architecture cannot be trained: let its losses take "
          "mixing weights in the place of alpha, and set relaxed=True"
        )
    self._problem, self._batch_size = problem, batch_size
    self._optimizers = Optimizers(weight_optimizer or make_optimizer(WEIGHT_OPTIMIZER), optax.identity())
    self._train, held_out = open_data(train, validation, seed=seed)
    check_data(problem, self._train, held_out, batch_size=batch_size, repeat=repeat)
    self._reading = Reading(self._train, (batch_size,), seed=2 * seed)
    (weights, alpha), _, self._key = jax.jit(seeded(problem.init))(np.int32(seed))
    self._alpha, self.choices, self.steps = alpha, choices_of(alpha), 0
    of_weights, _ = self._optimizers.at(problem.hyper)
    states = {player.name: init_optimizer(of_weights, player.pick(weights)) for player in problem.players}
    shares = jax.tree.map(jnp.zeros_like, one_hot_shares(alpha, np.zeros(len(self.choices), int)))
    self._start = TrainingState(jnp.zeros((), jnp.int32), weights, states, shares)
    self._loops: dict[int, DeviceLoop] = {}
    self._kept: dict[Architecture, TrainingState] = {}
    self._evaluate = self._make_evaluate(held_out, validation_batches, seed)

  def __call__(self, architecture: Sequence[int], steps: int) -> float:
    """The validation loss of an architecture after `steps` training steps."""
    return self.all([architecture], steps)[0]

  def all(self, architectures: Sequence[Sequence[int]], steps: int) -> list[float]:
    """The validation losses of several architectures after `steps` training steps each. NaN: its training failed."""
    members = [tuple(map(int, architecture)) for architecture in architectures]
    kept = [self._kept[member] for member in members if member in self._kept]
    first = max((int(state.step) for state in kept), default=0) if len(kept) == len(members) else 0
    goes_on = 0 < first <= steps
    states = kept if goes_on else [self._first_state(member) for member in members]
    states = self.advance(states, steps - first if goes_on else steps)
    self._kept = dict(zip(members, states, strict=True))
    losses = self.losses(states)
    return [loss if state.step == steps else float("nan") for loss, state in zip(losses, states, strict=True)]

  def advance(self, states: Sequence[TrainingState], steps: int) -> list[TrainingState]:
    """The states after so many more steps. A training whose loss or weights are not finite stays where it was; one
    that is behind the others is such a training."""
    count, first = len(states), max(int(state.step) for state in states)
    sound = np.array([state.step == first for state in states])
    loop = self._loop(count)
    loop.resume_from(Run(_stacked(states), sound), first)
    for _ in loop.calls(first + steps):
      pass
    self.steps += int(sound.sum()) * steps
    state = jax.device_get(loop.snapshot().state)
    return [jax.tree.map(lambda leaf, at=at: leaf[at], state) for at in range(count)]

  def losses(self, states: Sequence[TrainingState]) -> list[float]:
    """The validation loss of each."""
    return np.asarray(self._evaluate(_stacked(states))).tolist()

  def _first_state(self, architecture: Architecture) -> TrainingState:
    return jax.device_get(self._start._replace(shares=one_hot_shares(self._alpha, np.array(architecture, int))))

  def _loop(self, members: int) -> DeviceLoop:
    """The loop of so many architectures, whose program is compiled once."""
    if members not in self._loops:
      take = make_training_step(self._problem, self._optimizers)
      step = lambda state, train, key: take(state, train, key, self._problem.hyper)
      feed = open_population_feed([[self._reading]] * members, placement="device")
      layout = Layout(batch_size=self._batch_size, members=members)
      start = jax.tree.map(lambda leaf: jnp.stack([leaf] * members), self._start)
      keys = jnp.stack([self._key] * members)
      self._loops[members] = DeviceLoop(step, start, feed, keys, layout=layout, members=members)
    return self._loops[members]

  def _make_evaluate(self, held_out: Any, count: int, seed: int) -> Callable[[Any], jax.Array]:
    feed = open_feed([Reading(held_out, (count, self._batch_size), seed=2 * seed + 1)], placement="device")
    (batches,) = feed.fetch(feed.data, jax.tree.map(lambda leaf: leaf[0], feed.read(1)))
    keys, problem = jax.random.split(jax.random.fold_in(self._key, 1), count), self._problem

    def of_one(state):
      loss = lambda batch: validation_loss(problem, state, batch[0], batch[1], problem.hyper)
      return jax.lax.map(loss, (batches, keys)).mean()

    return jax.jit(lambda states: jax.lax.map(of_one, states))


def _stacked(states: Sequence[TrainingState]) -> TrainingState:
  """The states with a leading axis of members, numpy arrays."""
  return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *states)
