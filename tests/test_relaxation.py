"""The parts of a relaxation against their definitions: mixing weights, their gradients, perturbations, regularisers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy_choices

from ruas_jax import nas
from ruas_jax.bilevel import BilevelProblem
from ruas_jax.lowlight.mixed_op import fold_edges, init_edges, sum_of_operations
from ruas_jax.lowlight.operations import CANDIDATES, live_taps
from ruas_jax.nas.options import REGULARISERS
from ruas_jax.nas.regularisers import TERMS
from ruas_jax.nas.relaxation import KINDS, PartialChannels, Relaxation, softmax, sparsemax
from ruas_jax.nas.state import Optimizers, init_state
from ruas_jax.nas.step import make_search_step

pytestmark = pytest.mark.usefixtures("x64_module")

RNG = np.random.default_rng(0)
LOGITS = np.array([[0.3, -0.7, 1.1], [0.0, 0.5, -0.2]])
TARGET = RNG.normal(size=LOGITS.shape)
KEY = jax.random.key(3)


def draws(name, count=20_000, temperature=1.0, logits=LOGITS):
  draw = KINDS[name].draw
  keys = jax.random.split(KEY, count)
  return np.asarray(jax.jit(jax.vmap(lambda key: draw(jnp.asarray(logits), temperature, key)))(keys))


def assert_mean(samples, expected):
  """The mean of independent samples, within five of its standard errors."""
  error = samples.std(axis=0) / np.sqrt(len(samples)) + 1e-12
  np.testing.assert_array_less(np.abs(samples.mean(axis=0) - expected), 5 * error)


@pytest.mark.parametrize("name", KINDS)
def test_mixing_weights_are_on_the_simplex(name):
  samples = draws(name, count=100)
  if name == "sigmoid":
    np.testing.assert_allclose(samples[0], 1 / (1 + np.exp(-LOGITS)))
    return
  assert samples.min() >= 0
  np.testing.assert_allclose(samples.sum(axis=-1), 1, atol=1e-9)


@pytest.mark.parametrize("name", ["straight_through", "reinmax"])
def test_one_operation_is_drawn_as_often_as_softmax_says(name):
  samples = draws(name)
  assert set(np.unique(samples)) == {0, 1}
  assert_mean(samples, jax.nn.softmax(LOGITS))
  np.testing.assert_array_equal(KINDS[name].mean(LOGITS, 0.1), jax.nn.softmax(LOGITS))


def test_dirichlet_has_the_moments_of_its_concentration():
  c = np.where(LOGITS > 0, LOGITS + 1, np.exp(LOGITS))
  total = c.sum(axis=-1, keepdims=True)
  samples = draws("dirichlet")
  assert_mean(samples, c / total)
  assert_mean(samples**2, c * (c + 1) / total / (total + 1))
  np.testing.assert_allclose(KINDS["dirichlet"].mean(LOGITS, 1.0), c / total)


def test_the_dirichlet_gradient_is_that_of_the_expectation():
  """Of E[p_o^2], which has a closed form."""

  def expectation(logits):
    c = jax.nn.elu(logits) + 1
    total = c.sum(axis=-1, keepdims=True)
    return jnp.sum(TARGET * c * (c + 1) / total / (total + 1))

  value = lambda logits, key: jnp.sum(TARGET * KINDS["dirichlet"].draw(logits, 1.0, key) ** 2)
  keys = jax.random.split(KEY, 20_000)
  samples = jax.jit(jax.vmap(jax.grad(value), in_axes=(None, 0)))(jnp.asarray(LOGITS), keys)
  assert_mean(np.asarray(samples), jax.grad(expectation)(jnp.asarray(LOGITS)))


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "sparse", "gumbel"])
def test_gradients_are_those_of_central_differences(name):
  """At a fixed draw, where the relaxation draws."""
  value = jax.jit(lambda logits: jnp.sum(TARGET * KINDS[name].draw(logits, 0.7, KEY)))
  gradient = jax.grad(value)(jnp.asarray(LOGITS))
  for index in np.ndindex(LOGITS.shape):
    step = np.zeros_like(LOGITS)
    step[index] = 1e-5
    assert gradient[index] == pytest.approx(float(value(LOGITS + step) - value(LOGITS - step)) / 2e-5, abs=1e-9)


def test_straight_through_has_the_gradient_of_the_soft_weights():
  gradients = [
    jax.grad(lambda logits, draw=KINDS[name].draw: jnp.sum(TARGET * draw(logits, 0.7, KEY)))(jnp.asarray(LOGITS))
    for name in ("straight_through", "gumbel")
  ]
  np.testing.assert_allclose(*gradients, rtol=1e-12)
  hard, soft = (KINDS[name].draw(LOGITS, 0.7, KEY) for name in ("straight_through", "gumbel"))
  np.testing.assert_array_equal(hard, jax.nn.one_hot(soft.argmax(-1), 3))


def test_a_low_temperature_makes_gumbel_weights_hard():
  warm, cold = (draws("gumbel", count=50, temperature=temperature) for temperature in (10.0, 0.01))
  assert warm.max(axis=-1).mean() < 0.5 < 0.98 < cold.max(axis=-1).mean()


def test_reinmax_is_exact_for_quadratics(monkeypatch):
  """Its mean over the draws, each with its probability, is the gradient of the expectation."""
  curved, logits = RNG.normal(size=(3, 3)), jnp.asarray(LOGITS[0])
  f = lambda drawn: drawn @ (curved + curved.T) @ drawn + TARGET[0] @ drawn
  exact = jax.grad(lambda a: sum(p * f(corner) for p, corner in zip(jax.nn.softmax(a), jnp.eye(3), strict=True)))
  mean = 0.0
  for operation, probability in enumerate(jax.nn.softmax(logits)):
    monkeypatch.setattr(jax.random, "categorical", lambda *_, drawn=operation, **__: jnp.array(drawn))
    mean += probability * jax.grad(lambda a: f(KINDS["reinmax"].draw(a, 1.0, KEY)))(logits)
  np.testing.assert_allclose(mean, exact(logits), rtol=1e-12)


def test_sparsemax_is_the_nearest_point_of_the_simplex():
  for difference in (-3.0, -0.4, 0.0, 0.9, 1.5):  # of two logits: a line that is cut off
    expected = np.clip((1 + difference) / 2, 0, 1)
    np.testing.assert_allclose(sparsemax(jnp.array([difference, 0.0])), [expected, 1 - expected])
  logits = RNG.normal(size=(50, 6))
  found = np.asarray(sparsemax(logits))
  rest = logits - found  # optimality: one threshold where there is weight, and less elsewhere
  threshold = np.max(np.where(found > 0, rest, -np.inf), axis=-1, keepdims=True)
  assert 0 < (found == 0).mean() < 1
  assert np.all(np.where(found > 0, np.abs(rest - threshold) < 1e-12, rest <= threshold + 1e-12))


# In a search.


def test_draws_differ_between_batches_losses_leaves_and_players():
  """And each is a function of seed and step alone."""
  seen = []

  def note(weights, shares, batch):
    jax.debug.callback(lambda *drawn: seen.append(tuple(float(one[0, 0]) for one in drawn)), shares["a"], shares["b"])
    return jnp.sum(weights["w"]) * jnp.sum(shares["a"]) + jnp.mean(batch)

  def player(weights, shares, hyper):
    jax.debug.callback(lambda *drawn: seen.append(tuple(float(one[0, 0]) for one in drawn)), shares["a"], shares["b"])
    return BilevelProblem(note, note)

  def init(key):
    return {"w": jnp.ones(2)}, {"a": jnp.zeros((1, 3)), "b": jnp.zeros((1, 3))}

  players = [nas.Player(name, player, relaxed=True) for name in ("one", "two")]
  optimizers = Optimizers(optax.sgd(0.0), optax.sgd(0.0))
  problem, options = nas.SearchProblem(init, players), nas.SearchOptions(method="snas", unroll_steps=2)
  take = jax.jit(make_search_step(problem, options, optimizers))
  state = init_state(problem, optimizers, KEY, {})

  def drawn_in(state):
    seen.clear()
    jax.block_until_ready(take(state, jnp.ones((2, 1)), jnp.ones((1, 1)), KEY, {}))
    jax.effects_barrier()
    return set(seen)

  first = drawn_in(state)
  of_each_player = 1 + 1 + 2  # all mixing weights, the outer loss, and the inner loss on two batches
  assert len(first) == 2 * of_each_player
  assert len({value for pair in first for value in pair}) == 2 * len(first)
  assert drawn_in(state) == first and not drawn_in(state._replace(step=state.step + 1)) & first


def test_partial_channels_mix_some_channels_and_skip_in_the_others():
  relaxation = Relaxation(partial=PartialChannels(4, {"['edge']": 8}, skip=1))
  seen = []
  for seed in range(60):
    shares = np.asarray(relaxation({"edge": jnp.asarray(LOGITS)}, jax.random.key(seed))["edge"])
    mixed = np.isclose(shares, jax.nn.softmax(LOGITS)[..., None]).all(axis=1)
    assert mixed.sum(axis=-1).tolist() == [2, 2]
    np.testing.assert_array_equal(shares.transpose(0, 2, 1)[~mixed], np.tile([0, 1, 0], (12, 1)))
    seen.append(mixed)
  assert np.any(seen, axis=0).all()


def test_a_cell_with_mixing_weights_by_channel_is_still_one_convolution():
  channels = 3
  weights = init_edges(KEY, CANDIDATES, channels, 2, jnp.float64)
  shares = jnp.asarray(RNG.uniform(size=(2, len(CANDIDATES), channels)))
  taps = live_taps(CANDIDATES, channels)
  kernel, bias = fold_edges(weights, shares, CANDIDATES, taps, channels)
  x = RNG.normal(size=(1, channels, 9, 9))
  reach = max(abs(number) for tap in taps for number in tap)
  padded = np.pad(x, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
  moved = np.stack([padded[0, :, reach + i : reach + i + 9, reach + j : reach + j + 9] for i, j in taps])
  together = np.einsum("toc,tchw->ohw", kernel, moved) + np.asarray(bias)[:, None, None]
  for edge in range(2):
    of_edge = jax.tree.map(lambda leaf, edge=edge: leaf[edge], weights)
    plain = sum_of_operations(x, of_edge, shares[edge], CANDIDATES)[0]
    np.testing.assert_allclose(together[edge * channels : (edge + 1) * channels], plain, atol=1e-12)


@pytest.mark.parametrize("kind", ["random", "adversarial"])
def test_perturbations_are_small_and_of_the_inner_loss(kind):
  size = 0.05
  relaxation = Relaxation(perturbation=kind, size=size)
  weights, alpha = {"w": jnp.array([[1.0, -2.0, 0.0]])}, {"edge": jnp.asarray(LOGITS[:1])}
  shares_of = lambda weights, shares, batch: jnp.sum(shares["edge"] * TARGET[:1] * weights["w"])
  seen = []
  noting = lambda weights, shares, batch: (seen.append(np.asarray(shares["edge"])), shares_of(weights, shares, batch))[
    1
  ]
  plain = float(shares_of(weights, softmax(alpha), None))
  if kind == "random":
    for seed in range(50):
      relaxation.of_inner(noting)(weights, alpha, None, key=jax.random.key(seed))
    changes = np.array(seen) - np.asarray(softmax(alpha)["edge"])
    assert 0.8 * size < np.abs(changes).max() <= size and abs(changes.mean()) < size / 5
  else:
    worst = float(relaxation.of_inner(shares_of)(weights, alpha, None, key=KEY))
    slope = np.abs(TARGET[:1] * weights["w"]).sum()  # a linear loss is worst at a corner of the box
    assert worst == pytest.approx(plain + size * slope)
    gradient = jax.grad(lambda weights: relaxation.of_inner(shares_of)(weights, alpha, None, key=KEY))(weights)
    at_corner = np.asarray(softmax(alpha)["edge"]) + size * np.sign(TARGET[:1] * weights["w"])
    np.testing.assert_allclose(gradient["w"], TARGET[:1] * at_corner)
  assert float(relaxation.of_outer(shares_of)(weights, alpha, None)) == plain


def test_regularisers_are_their_formulas():
  alpha = {"a": jnp.asarray(LOGITS), "b": jnp.zeros((1, 2)), "count": jnp.array(3)}
  shares = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=-1, keepdims=True)
  sigmoid = 1 / (1 + np.exp(-LOGITS))
  expected = {
    "entropy": (-(shares * np.log(shares)).sum(axis=-1).sum() + np.log(2)) / 3,
    "beta": (np.log(np.exp(LOGITS).sum(axis=-1)).sum() + np.log(2)) / 3,
    "zero_one": -((sigmoid - 0.5) ** 2).mean(axis=-1).sum() / 3,
    "distance": (np.where(LOGITS > 0, LOGITS, np.exp(LOGITS) - 1) ** 2).sum() / 3,
    "weight_decay": (LOGITS**2).sum() / 2,
  }
  assert set(TERMS) == set(REGULARISERS) == set(expected)
  for name, value in expected.items():
    assert float(TERMS[name](alpha)) == pytest.approx(value, rel=1e-12)


def test_a_relaxed_player_in_softmax_is_the_same_program_as_softmax_in_its_losses():
  relaxed = toy_choices.problem()
  error = lambda weights, alpha, batch: toy_choices.error(weights, softmax(alpha), batch)
  plain = dataclasses.replace(relaxed, players=[nas.Player("cell", BilevelProblem(error, error))])
  optimizers = Optimizers(optax.sgd(0.1), optax.sgd(0.1))
  batches = jax.tree.map(lambda leaf: leaf[None], toy_choices.data())
  programs = []
  for problem in (relaxed, plain):
    step = make_search_step(problem, nas.SearchOptions(), optimizers)
    state = init_state(problem, optimizers, KEY, {})
    programs.append(str(jax.make_jaxpr(step)(state, batches, batches, KEY, {})))
  assert programs[0] == programs[1]
