"""The cost as a part of any search, on one edge between a cheap operation and one that is better and expensive."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ruas_jax import nas
from ruas_jax.errors import UserError
from ruas_jax.nas.cost import CostTerm, check_cost, cost_of_edges
from ruas_jax.nas.schedule import check_method, moment

COST = np.array([0.2, 1.0])
LOSS = np.array([0.3, 0.0])
OPTIMIZERS = {"weight_optimizer": optax.sgd(0.1), "alpha_optimizer": optax.adam(0.1)}


def init(key):
  return {"w": jnp.ones(2)}, {"edge": jnp.zeros((1, 2)), "other": jnp.zeros((1, 2))}


def inner(weights, shares, batch):
  return jnp.sum((weights["w"] - 1 - 0 * batch.sum()) ** 2)


def outer(weights, shares, batch):
  return jnp.sum(shares["edge"][0] * LOSS * weights["w"]), {"size": jnp.sum(weights["w"])}


def cost(shares):
  return jnp.sum(shares["edge"][0] * COST) * jnp.sum(shares["other"][0] * COST)


def problem(*, relaxed=True, hyper=None, given=outer):
  players = (nas.Player("cell", nas.BilevelProblem(inner, given), relaxed=relaxed),)
  return nas.SearchProblem(init, players, costs={"size": cost, "speed": cost}, hyper=hyper or {})


def search(problem, steps=60, **options):
  data = np.zeros((4, 1), np.float32)
  return nas.search(problem, train=data, options=nas.SearchOptions(steps=steps, **options), batch_size=2, **OPTIMIZERS)


def test_the_weight_moves_the_choice_from_the_better_to_the_cheaper():
  free = search(problem())
  assert free.derived["edge"] == [1]
  costly = search(problem(), cost="size", cost_weight=2.0)
  assert costly.derived["edge"] == costly.derived["other"] == [0]
  assert "cell_cost_size" not in free.metrics[-1]
  # The first step's loss and cost, by hand: all mixing weights are one half. The logged loss is without the cost.
  first = costly.metrics[0]
  assert first["cell_cost_size"] == pytest.approx(0.6 * 0.6)
  assert first["cell_validation_loss"] == pytest.approx(0.15)
  assert first["cell_validation_size"] == pytest.approx(2)


def test_a_target_holds_the_cost_at_it():
  held = search(problem(), steps=200, cost="size", cost_weight=2.0, cost_target=0.3)
  assert held.metrics[-1]["cell_cost_size"] == pytest.approx(0.3, abs=0.05)
  free, within = search(problem(), 3), search(problem(), 3, cost="size", cost_weight=2.0, cost_target=0.9)
  np.testing.assert_array_equal(free.alpha["edge"], within.alpha["edge"])  # the cost, 0.36, is below the target


def test_the_term_of_a_target_by_hand():
  assert float(CostTerm("size", 2.0, 0.4)(jnp.array(0.6))) == pytest.approx(2 * (0.6 / 0.4 - 1))
  assert float(CostTerm("size", 2.0, 0.4)(jnp.array(0.3))) == 0
  assert float(CostTerm("size", 2.0, None)(jnp.array(0.3))) == pytest.approx(0.6)


def test_a_cost_of_edges_is_exact_for_every_architecture():
  names, prices = ("skip", "small", "large"), {"skip": 0, "small": 2, "large": 7}
  of = lambda chosen: 10 + prices[chosen[0]] + 3 * prices[chosen[1]]
  expected = cost_of_edges(of, 2, names)
  for chosen in itertools.product(range(3), repeat=2):
    shares = jnp.eye(3)[np.array(chosen)]
    assert float(expected(shares)) == pytest.approx(of(tuple(names[index] for index in chosen)) / of(("large",) * 2))


def test_a_zero_weight_changes_no_bit():
  one, other = search(problem(), 5), search(problem(), 5, cost="size")
  jax.tree.map(np.testing.assert_array_equal, one.state, other.state)
  assert one.metrics == other.metrics


def test_the_others_mixing_weights_are_constants():
  """Two players, one with each edge: each gets the derivative of the cost in its own alpha, at the other's."""

  def loss(name):
    def of(weights, shares, batch):
      return jnp.sum(weights[name] ** 2) + 0 * shares[name].sum()

    return nas.BilevelProblem(of, of)

  names = ("edge", "other")
  players = tuple(nas.Player(name, loss(name), modules=(name,), relaxed=True) for name in names)
  of_both = nas.SearchProblem(init, players, costs={"size": cost})
  options = nas.SearchOptions(cost="size", cost_weight=3.0)
  with jax.enable_x64(True):
    alpha = {"edge": jnp.array([[0.3, -0.2]]), "other": jnp.array([[-0.5, 0.1]])}
    whole = jax.grad(lambda alpha: 3 * cost(jax.tree.map(jax.nn.softmax, alpha)))(alpha)
    for player in players:
      penalty = moment(of_both, options, jnp.zeros((), jnp.int32), {}).penalty(of_both, player, alpha)
      assert penalty is not None
      total, gradient, values = penalty.with_gradient(player.pick(alpha))
      np.testing.assert_allclose(gradient[player.name], whole[player.name], rtol=1e-12)
      np.testing.assert_allclose(total, 3 * values["cost_size"], rtol=1e-12)


def test_a_swept_weight_is_the_single_searches():
  weights = (0.0, 0.5, 2.0)
  population = nas.search_population(
    problem(),
    train=np.zeros((4, 1), np.float32),
    seeds=[0],
    sweep={"search.cost_weight": weights},
    options=nas.SearchOptions(steps=5, cost="size"),
    batch_size=2,
    **OPTIMIZERS,
  )
  for weight, result in zip(weights, population.results, strict=True):
    alone = search(problem(), 5, cost="size", cost_weight=weight)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), result.alpha, alone.alpha)
  costs = [records[-1]["cell_cost_size"] for records in population.metrics]
  assert costs[0] > costs[1] > costs[2]


@pytest.mark.parametrize(
  "options, hyper, said",
  [
    (
      {"cost": "sise", "cost_weight": 1.0},
      {},
      r"`search.cost` 'sise' is unknown; perhaps you meant size \(known: size",
    ),
    ({"cost": "size", "cost_target": 0.5}, {}, "`search.cost_target` needs `search.cost_weight`"),
    ({}, {"search.cost_weight": 0.1}, "`search.cost_weight` needs `search.cost`"),
  ],
)
def test_options_that_do_not_fit_are_one_line(options, hyper, said):
  with pytest.raises(UserError, match=f"^{said}[^\n]*$"):
    check_cost(problem(hyper=hyper), nas.SearchOptions(**options))


def test_alpha_instead_of_mixing_weights_is_refused():
  with pytest.raises(UserError, match=r"^`search\.cost` needs mixing weights, but player 'cell' is not relaxed"):
    check_method(problem(relaxed=False), nas.SearchOptions(cost="size", cost_weight=1.0))


@pytest.mark.parametrize(
  "options, said",
  [
    ({"cost_target": 0.5}, "`search.cost_target` needs `search.cost`"),
    ({"cost_weight": 0.5}, "`search.cost_weight` needs `search.cost`"),
    ({"cost": "size", "cost_weight": -1.0}, "`search.cost_weight` must be at least 0"),
    ({"cost": "size", "cost_target": 0.0}, "`search.cost_target` must be above 0"),
  ],
)
def test_wrong_options_are_one_line(options, said):
  with pytest.raises(UserError, match=f"^{said}"):
    nas.SearchOptions(**options)
