"""A round of the search against its formulas, on stand-ins of two numbers."""

import functools
import typing
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from stepping import first_state, players_of, problem_of, step_of

from ruas_jax.bilevel import ESTIMATORS
from ruas_jax.errors import UserError
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.objectives import Objectives, make_objectives
from ruas_jax.lowlight.operations import CANDIDATES
from ruas_jax.lowlight.options import DenoisingOptions, IlluminationOptions, NetworkOptions
from ruas_jax.lowlight.search_options import RUASSearchOptions
from ruas_jax.nas.methods import Hypergradient
from ruas_jax.nas.step import batches_per_step
from ruas_jax.optimizers import make_optimizer

pytestmark = pytest.mark.usefixtures("x64_module")

RATE, MOMENTUM, ALPHA_RATE, BETA = 0.1, 0.9, 0.05, 0.7
CROP = 4


# Stand-ins: w, a of the illumination and v, b of the denoising, each two numbers.


def loss_t(w, a, y):
  return jnp.sum((w - jnp.tanh(a) * jnp.mean(y)) ** 2) + 0.1 * jnp.sum(a**2 * w**2)


def brighten(w, a, y):
  return y * (1 + jnp.sum(w * a))


def loss_n(v, b, u):
  return jnp.sum((v - jnp.sin(b) * jnp.mean(u)) ** 2) + 0.3 * jnp.mean(u) ** 2 + 0.1 * jnp.sum(b**2)


OBJECTIVES = Objectives(lambda w, a, y: (loss_t(w, a, y), brighten(w, a, y)), loss_n)
START = {"w": [0.4, -0.3], "a": [0.2, 0.5], "v": [-0.2, 0.7], "b": [0.9, -0.4]}


def stand_in_network():
  value = lambda name: jnp.array(START[name], jnp.float64)
  return SimpleNamespace(
    init_weights=lambda key, dtype: {"illumination": value("w"), "denoising": value("v")},
    init_alpha=lambda dtype: {"illumination": value("a"), "denoising": value("b")},
  )


def search(options, alpha_optimizer=None, weight_optimizer=None):
  """The jitted step of the stand-ins and its first state."""
  weight_optimizer = weight_optimizer or optax.sgd(RATE, momentum=MOMENTUM)
  alpha_optimizer = alpha_optimizer or optax.sgd(ALPHA_RATE)
  problem = problem_of(stand_in_network(), players_of(options, OBJECTIVES, BETA, relaxed=False), CROP)
  step, init = step_of(problem, options, weight_optimizer, alpha_optimizer)
  return jax.jit(step), first_state(init)


def batches_of(options):
  return batches_per_step(problem_of(None, players_of(options, OBJECTIVES, BETA, relaxed=False), CROP), options)


def images(count, seed, side=CROP):
  """`count` batches of one image that is exactly one crop, so that no randomness is left."""
  image = np.random.default_rng(seed).integers(0, 256, (count, 1, side, side, 3), np.uint8)
  return {"image": image, "size": np.full((count, 1, 2), side, np.int32)}


def crops(batches):
  return [(jnp.asarray(image, jnp.float32) / 255).astype(jnp.float64) for image in batches["image"]]


class ByHand:
  """The round written as formulas, eq. 4-6 and Algorithm 1, on plain vectors."""

  def __init__(self):
    for name, value in START.items():
      setattr(self, name, jnp.array(value, jnp.float64))
    self.trace_w = self.trace_v = jnp.zeros(2)

  def illumination(self, trains, validation, *, beta=BETA, look_ahead=True, unrolled=True):
    w, v, b = self.w, self.v, self.b

    def ahead(a):
      now, trace = w, self.trace_w
      for train in trains:
        trace = jax.grad(loss_t)(now, a, train) + MOMENTUM * trace
        now = now - RATE * trace
      return now

    def outer(a):
      moved = ahead(a) if unrolled else w
      return loss_t(moved, a, validation) + beta * loss_n(v, b, brighten(moved if look_ahead else w, a, validation))

    losses = {"validation_loss": outer(self.a)}
    self.a = self.a - ALPHA_RATE * jax.grad(outer)(self.a)
    losses["train_loss"] = loss_t(w, self.a, trains[0])
    self.trace_w = jax.grad(loss_t)(w, self.a, trains[0]) + MOMENTUM * self.trace_w
    self.w = w - RATE * self.trace_w
    return {f"illumination_{name}": value for name, value in losses.items()}

  def denoising(self, trains, validation, *, unrolled=True):
    v, lit = self.v, functools.partial(brighten, self.w, self.a)  # the illumination after its own update

    def ahead(b):
      now, trace = v, self.trace_v
      for train in trains:
        trace = jax.grad(loss_n)(now, b, lit(train)) + MOMENTUM * trace
        now = now - RATE * trace
      return now

    outer = lambda b: loss_n(ahead(b) if unrolled else v, b, lit(validation))
    losses = {"validation_loss": outer(self.b)}
    self.b = self.b - ALPHA_RATE * jax.grad(outer)(self.b)
    losses["train_loss"] = loss_n(v, self.b, lit(trains[0]))
    self.trace_v = jax.grad(loss_n)(v, self.b, lit(trains[0])) + MOMENTUM * self.trace_v
    self.v = v - RATE * self.trace_v
    return {f"denoising_{name}": value for name, value in losses.items()}

  def assert_is(self, state):
    expected = {
      "weights": {"illumination": self.w, "denoising": self.v},
      "alpha": {"illumination": self.a, "denoising": self.b},
    }
    actual = {"weights": state.weights, "alpha": state.alpha}
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-13), actual, expected)


def without_alpha(metrics):
  return {name: value for name, value in metrics.items() if not name.startswith("alpha_")}


KEY = jax.random.key(7)
COOPERATIVE = {
  "equation_5": ({}, {}, {}),
  "algorithm_1": ({"cooperation": "algorithm_1"}, {"look_ahead": False}, {}),
  "first_order": ({"hypergradient": "first_order"}, {"unrolled": False}, {"unrolled": False}),
  "two_steps_ahead": ({"unroll_steps": 2}, {}, {}),
  "two_steps_algorithm_1": ({"unroll_steps": 2, "cooperation": "algorithm_1"}, {"look_ahead": False}, {}),
}


@pytest.mark.parametrize("name", COOPERATIVE)
def test_cooperative_round_is_its_formulas(name):
  """Three rounds: alpha by the hypergradient, then the old weights stepped at the new alpha; then the NRM alike."""
  arguments, illumination, denoising = COOPERATIVE[name]
  options = RUASSearchOptions(**arguments)
  step, state = search(options)
  hand = ByHand()
  for round_ in range(3):
    train, validation = (images(count, 10 * round_ + i) for i, count in enumerate(batches_of(options)))
    assert len(train["image"]) == options.unroll_steps and len(validation["image"]) == 1
    state, metrics = step(state, train, validation, KEY)
    expected = hand.illumination(crops(train), crops(validation)[0], **illumination)
    expected |= hand.denoising(crops(train), crops(validation)[0], **denoising)
    hand.assert_is(state)
    for entry, value in expected.items():
      assert metrics[entry] == pytest.approx(float(value), rel=1e-12), entry
    assert set(without_alpha(metrics)) == {*expected, "illumination_iterations", "denoising_iterations"}
    for name, values in state.alpha.items():
      np.testing.assert_array_equal(metrics[f"alpha_{name}"], values)
    assert metrics["illumination_iterations"] == metrics["denoising_iterations"] == 1
    assert state.step == round_ + 1


def test_inner_loops_are_iterations_one_after_another():
  """Lines 4-7 and 9-12: each iteration on batches of its own, the NRM after all of the IEM's."""
  options = RUASSearchOptions(illumination_length=3, denoising_length=2, unroll_steps=2)
  assert batches_of(options) == (6, 3)
  step, state = search(options)
  train, validation = images(6, 0), images(3, 1)
  state, metrics = step(state, train, validation, KEY)
  hand, trains, validations = ByHand(), crops(train), crops(validation)
  for i in range(3):
    losses = hand.illumination(trains[2 * i : 2 * i + 2], validations[i])
  for i in range(2):
    losses |= hand.denoising(trains[2 * i : 2 * i + 2], validations[i])
  hand.assert_is(state)
  assert (metrics["illumination_iterations"], metrics["denoising_iterations"]) == (3, 2)
  assert all(metrics[entry] == pytest.approx(float(value), rel=1e-12) for entry, value in losses.items())


def test_inner_loop_ends_when_its_loss_settles():
  """On one batch throughout, with a tolerance that is met after some iterations but before the last."""
  length, tolerance = 40, 0.05
  repeated = lambda seed: jax.tree.map(lambda leaf: np.repeat(leaf, length, axis=0), images(1, seed))
  train, validation = repeated(0), repeated(1)
  hand, losses = ByHand(), []
  while len(losses) < 2 or abs(losses[-1] - losses[-2]) >= tolerance * abs(losses[-2]):
    losses.append(float(hand.illumination(crops(train)[:1], crops(validation)[0])["illumination_train_loss"]))
  assert 2 < len(losses) < length
  step, state = search(RUASSearchOptions(illumination_length=length, tolerance=tolerance))
  state, metrics = step(state, train, validation, KEY)
  assert metrics["illumination_iterations"] == len(losses) and metrics["denoising_iterations"] == 1
  hand.denoising(crops(train)[:1], crops(validation)[0])
  hand.assert_is(state)


def test_separate_strategy_takes_turns():
  """The IEM alone, without beta, in the first half; the NRM alone behind it in the second."""
  step, state = search(RUASSearchOptions(steps=4, strategy="separate"))
  hand = ByHand()
  for round_ in range(4):
    train, validation = images(1, 2 * round_), images(1, 2 * round_ + 1)
    state, metrics = step(state, train, validation, KEY)
    if round_ < 2:
      hand.illumination(crops(train), crops(validation)[0], beta=0.0)
    else:
      hand.denoising(crops(train), crops(validation)[0])
    hand.assert_is(state)
    assert (metrics["illumination_iterations"], metrics["denoising_iterations"]) == ((1, 0) if round_ < 2 else (0, 1))


def test_joint_strategy_is_one_problem_over_everything():
  def whole(weights, alpha, y):
    u = brighten(weights["illumination"], alpha["illumination"], y)
    return loss_t(weights["illumination"], alpha["illumination"], y) + BETA * loss_n(
      weights["denoising"], alpha["denoising"], u
    )

  descend = lambda values, gradient, rate: jax.tree.map(lambda value, slope: value - rate * slope, values, gradient)
  step, state = search(RUASSearchOptions(strategy="joint"))
  weights, alpha = state.weights, state.alpha
  train, validation = images(1, 0), images(1, 1)
  state, metrics = step(state, train, validation, KEY)
  (y,), (held_out,) = crops(train), crops(validation)
  outer = lambda alpha: whole(descend(weights, jax.grad(whole)(weights, alpha, y), RATE), alpha, held_out)
  assert metrics["joint_validation_loss"] == pytest.approx(float(outer(alpha)), rel=1e-12)
  alpha = descend(alpha, jax.grad(outer)(alpha), ALPHA_RATE)
  weights = descend(weights, jax.grad(whole)(weights, alpha, y), RATE)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-12), (state.weights, state.alpha), (weights, alpha)
  )
  assert set(without_alpha(metrics)) == {"joint_train_loss", "joint_validation_loss", "joint_iterations"}


def test_step_is_pure_and_its_randomness_is_of_key_and_step():
  step, state = search(RUASSearchOptions())
  train, validation = images(1, 0, side=32), images(1, 1, side=32)
  first, metrics = step(state, train, validation, KEY)
  again, same = step(state, train, validation, KEY)
  jax.tree.map(np.testing.assert_array_equal, (first, metrics), (again, same))
  _, later = step(state._replace(step=state.step + 1), train, validation, KEY)
  _, other = step(state, train, validation, jax.random.key(8))
  for name in ("illumination_train_loss", "illumination_validation_loss"):
    assert len({float(result[name]) for result in (metrics, later, other)}) == 3, "the crops are to differ"


def test_crops_differ_between_batches_players_and_purposes():
  """On a batch that holds the same image everywhere, no two crops of a round are the same."""
  seen = []

  def record(y):
    jax.debug.callback(lambda value: seen.append(float(value)), jnp.mean(y), ordered=True)

  def illumination(w, a, y):
    record(y)
    return loss_t(w, a, y), brighten(w, a, y)

  options = RUASSearchOptions(unroll_steps=2, illumination_length=2, denoising_length=2, hypergradient="first_order")
  players = players_of(options, Objectives(illumination, loss_n), 0.0)
  optimizer = optax.sgd(RATE)
  step, init = step_of(problem_of(stand_in_network(), players, CROP), options, optimizer, optimizer)
  state = first_state(init)
  train, validation = (
    jax.tree.map(lambda leaf, count=count: np.repeat(leaf, count, axis=0), images(1, 0, side=64)) for count in (4, 2)
  )
  jax.block_until_ready(step(state, train, validation, KEY))
  jax.effects_barrier()
  assert len(set(seen)) == 12  # two players, two iterations, two training crops and one for validation


def test_alpha_optimizer_sees_the_hypergradient():
  """The paper's Adam in place of plain descent: its first step is the rate, against the gradient's sign."""
  options = RUASSearchOptions()
  step, state = search(options, make_optimizer(options.alpha_optimizer))
  plain, start = search(options)
  train, validation = images(1, 0), images(1, 1)
  state, _ = step(state, train, validation, KEY)
  moved, _ = plain(start, train, validation, KEY)
  change = state.alpha["illumination"] - np.array(START["a"])
  np.testing.assert_allclose(change, 3e-4 * np.sign(moved.alpha["illumination"] - np.array(START["a"])), rtol=1e-3)


def test_optimizers_of_weights_and_alpha_get_the_losses_that_they_ask_for():
  """A Polyak step for the weights, and for alpha a line search on the outer loss after the step ahead."""
  rate = lambda w, a, y: loss_t(w, a, y) / jnp.sum(jax.grad(loss_t)(w, a, y) ** 2)
  ahead = lambda w, a, y: w - rate(w, a, y) * jax.grad(loss_t)(w, a, y)
  searching = optax.chain(optax.sgd(20.0), optax.scale_by_backtracking_linesearch(20, decrease_factor=0.5))
  polyak = optax.polyak_sgd(max_learning_rate=100.0)
  step, state = search(RUASSearchOptions(steps=2, strategy="separate"), searching, polyak)
  w, a = state.weights["illumination"], state.alpha["illumination"]
  train, validation = images(1, 0), images(1, 1)
  state, _ = step(state, train, validation, KEY)
  outer = lambda a: loss_t(ahead(w, a, crops(train)[0]), a, crops(validation)[0])
  moved = state.alpha["illumination"]
  shares = (a - moved) / jax.grad(outer)(a) / 20
  np.testing.assert_allclose(np.log2(shares), round(np.log2(float(shares[0]))) * np.ones(2), atol=1e-6)
  assert outer(moved) < outer(a) < outer(2 * moved - a)  # twice the move would not have done
  np.testing.assert_allclose(state.weights["illumination"], ahead(w, moved, crops(train)[0]), rtol=1e-6)


def test_a_round_says_whether_its_implicit_hypergradient_converged():
  """In an inner loop too; a scale that is much too large diverges."""
  for scale, converged in (("0.1", True), ("100", False)):
    options = RUASSearchOptions(
      hypergradient="neumann", hypergradient_options=("terms=4", f"scale={scale}"), denoising_length=2
    )
    step, state = search(options)
    _, metrics = step(state, images(2, 0), images(2, 1), KEY)
    for player in ("illumination", "denoising"):
      assert metrics[f"{player}_converged"].dtype == bool and metrics[f"{player}_converged"] == converged
      assert (metrics[f"{player}_residual"] < 1) == converged


@pytest.mark.parametrize("name", ["steps", "unroll_steps", "illumination_length", "denoising_length"])
def test_lengths_below_one_are_refused(name):
  with pytest.raises(UserError, match=f"`search.{name}` must be at least 1"):
    RUASSearchOptions(**{name: 0})


BY_NAME = {
  "unrolled": (),
  "mixed_mode": (),
  "forward": ("chunk=2",),
  "truncated": ("last=1",),
  "first_order": (),
  "finite_difference": ("epsilon=1e-3", "epsilon_rule=absolute"),
  "cg": ("iterations=2",),
  "neumann": ("terms=3", "scale=0.1"),
  "nystrom": ("rank=2", "damping=0.5"),
  "evolution": ("samples=4", "sigma=0.01"),
}


@pytest.fixture(scope="module")
def rounds_by_name(x64_module):
  """Alpha after a round with each estimator; truncated with T = 1 is the whole unroll too."""

  def alpha_after(name):
    step, state = search(RUASSearchOptions(hypergradient=name, hypergradient_options=BY_NAME[name]))
    state, _ = step(state, images(1, 0), images(1, 1), KEY)
    return np.concatenate([state.alpha["illumination"], state.alpha["denoising"]])

  return {name: alpha_after(name) for name in BY_NAME}


def test_every_estimator_is_chosen_by_its_name(rounds_by_name):
  assert set(BY_NAME) == set(ESTIMATORS)
  assert set(typing.get_args(Hypergradient)) == set(ESTIMATORS)
  exact = rounds_by_name["unrolled"]
  for name, alpha in rounds_by_name.items():
    error = np.linalg.norm(alpha - exact) / ALPHA_RATE
    assert np.isfinite(error), name
    if name in ("unrolled", "mixed_mode", "forward", "truncated"):
      assert error < 1e-12, name
    elif name == "finite_difference":
      assert 0 < error < 1e-4
    else:
      assert error > 1e-3, name


@pytest.mark.parametrize(
  ("options", "complaint"),
  [
    ({"hypergradient": "exact"}, "'exact' is not one of"),
    ({"hypergradient": "neumann"}, "neumann needs the option 'terms'"),
    ({"hypergradient": "unrolled", "hypergradient_options": ("terms=3",)}, "unrolled has no option 'terms'"),
    ({"hypergradient_options": ("terms",)}, "NAME=VALUE, not 'terms'"),
    ({"hypergradient": "finite_difference", "unroll_steps": 2}, "defined for one inner step, not 2"),
    ({"hypergradient": "finite_difference", "hypergradient_options": ("epsilon=0",)}, "epsilon must be positive"),
    ({"hypergradient": "truncated", "hypergradient_options": ("last=2",)}, "last must be in 1..1"),
  ],
)
def test_wrong_estimators_are_refused_before_a_search(options, complaint):
  with pytest.raises(UserError, match=complaint):
    RUASSearchOptions(**options)


def test_a_real_round_keeps_the_shape_of_its_state():
  """Every field, so that rounds can be scanned, donated and resumed; traced only."""
  options = RUASSearchOptions(unroll_steps=2)
  one_stage = NetworkOptions(illumination=IlluminationOptions(stages=1), denoising=DenoisingOptions(stages=1))
  network = build_network(one_stage, operations=CANDIDATES[:2])
  objectives = make_objectives(network)
  optimizers = make_optimizer(options.weight_optimizer), make_optimizer(options.alpha_optimizer)
  problem = problem_of(network, players_of(options, objectives, BETA, relaxed=False), 8)
  with jax.enable_x64(False):
    step, init = step_of(problem, options, *optimizers)
    state = jax.eval_shape(lambda: first_state(init))
    train, validation = (images(count, 0, side=8) for count in batches_of(options))
    after, metrics = jax.eval_shape(step, state, train, validation, jax.random.key(0))
  shape = lambda leaf: (leaf.shape, leaf.dtype)
  assert jax.tree.map(shape, after) == jax.tree.map(shape, state)
  assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree.leaves((after, metrics)))


def test_constant_leaves_of_weights_and_alpha_pass_through_the_search():
  """A counter that comes first, a mask and PRNG keys stay as they are, and change nothing for the others."""
  constant = {"count": jnp.array(2**30 + 1), "key": jax.random.key(3), "mask": jnp.array([True, False])}
  split = lambda tree, name: {"illumination": constant | {name: tree["illumination"]}, "denoising": tree["denoising"]}
  plain = stand_in_network()
  network = SimpleNamespace(
    init_weights=lambda key, dtype: split(plain.init_weights(key, dtype), "w"),
    init_alpha=lambda dtype: split(plain.init_alpha(dtype), "x"),
  )
  objectives = OBJECTIVES._replace(illumination=lambda w, a, y: OBJECTIVES.illumination(w["w"], a["x"], y))
  options = RUASSearchOptions(illumination_length=2, unroll_steps=2)
  optimizers = optax.sgd(RATE, momentum=MOMENTUM), make_optimizer(options.alpha_optimizer)
  step, init = step_of(
    problem_of(network, players_of(options, objectives, BETA, relaxed=False), CROP), options, *optimizers
  )
  step, state = jax.jit(step), first_state(init)
  expected_step, expected = search(options, optimizers[1])
  train, validation = images(4, 0), images(2, 1)
  (state, metrics), (expected, expected_metrics) = (
    take(start, train, validation, KEY) for take, start in ((step, state), (expected_step, expected))
  )
  same = functools.partial(jax.tree.map, functools.partial(np.testing.assert_allclose, rtol=1e-12))
  same(without_alpha(metrics), without_alpha(expected_metrics))
  for name, tree, of_plain in (("w", state.weights, expected.weights), ("x", state.alpha, expected.alpha)):
    found = tree["illumination"]
    same((found[name], tree["denoising"]), (of_plain["illumination"], of_plain["denoising"]))
    assert found["count"] == constant["count"] and found["key"] == constant["key"]
    np.testing.assert_array_equal(found["mask"], constant["mask"])
