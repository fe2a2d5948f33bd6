"""Search methods: their parts and schedules, each on a problem whose answer is known, selections, early stops."""

import dataclasses
import functools
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy_choices
from tiny_problem import ruas

import ruas_jax
from ruas_jax import nas
from ruas_jax.bilevel import BilevelProblem
from ruas_jax.config import read_config
from ruas_jax.errors import UserError
from ruas_jax.nas.methods import METHODS, MethodName
from ruas_jax.nas.regularisers import TERMS
from ruas_jax.nas.schedule import moment
from ruas_jax.nas.selection import sampled, within
from ruas_jax.nas.stopping import is_time

pytestmark = pytest.mark.usefixtures("x64_module")

STILL = {"weight_optimizer": optax.sgd(0.0), "alpha_optimizer": optax.sgd(0.0)}


def test_schedules_are_functions_of_the_step():
  problem = toy_choices.problem()
  temperature = lambda step, **options: float(
    moment(problem, nas.SearchOptions(steps=10, **options), jnp.array(step), {}).relaxation.temperature
  )
  assert temperature(0, method="snas") == 1 and temperature(10, method="snas") == pytest.approx(0.03)
  assert temperature(5, method="snas") == pytest.approx(0.03**0.5)
  assert temperature(5, method="gdas") == pytest.approx((10 + 0.1) / 2)
  assert temperature(5, method="gdas", final_temperature=0.0) == 10
  at = lambda step, **options: moment(problem, nas.SearchOptions(steps=10, **options), jnp.array(step), {})
  assert at(5, method="beta_darts").weights == {"beta": 25}
  assert at(5, method="beta_darts", ramp=0.25).weights == {"beta": 50}
  assert float(at(5, method="smooth_darts").relaxation.size) == pytest.approx(0.15)
  assert [bool(at(step, method="pc_darts").alpha_moves) for step in (2, 3)] == [False, True]
  assert at(5).alpha_moves is True
  swept = moment(
    problem, nas.SearchOptions(), jnp.array(1), {"search.temperature": 2.0, "search.regularisers.beta": 3.0}
  )
  assert swept.relaxation.temperature == 2 and swept.weights == {"beta": 3}
  ramped = moment(problem, nas.SearchOptions(steps=10, ramp=1.0), jnp.array(5), {"search.regularisers.beta": 3.0})
  assert ramped.weights == {"beta": 1.5}


def test_a_step_descends_the_outer_loss_and_its_regularisers():
  """By the gradient of both, at the weights that a schedule gives; the logged loss is the problem's."""
  costs = {"sum": lambda shares: jnp.sum(shares["rows"][:, 1] ** 2)}
  problem = lambda: toy_choices.problem(costs=costs)
  sgd = {"optimizers": {"weight_optimizer": optax.sgd(0.01), "alpha_optimizer": optax.sgd(0.1)}, "problem": problem}
  plain = toy_choices.search(steps=1, **sgd)
  found = toy_choices.search(steps=1, regularisers=("beta=2",), cost="sum", cost_weight=3.0, **sgd)
  start = jnp.zeros((3, 3))
  added = jax.grad(lambda a: 2 * TERMS["beta"](a) + 3 * costs["sum"]({"rows": jax.nn.softmax(a)}))(start)
  np.testing.assert_allclose(found.alpha["rows"], plain.alpha["rows"] - 0.1 * added, atol=1e-12)
  record = found.metrics[0]
  assert record["cell_validation_loss"] == plain.metrics[0]["cell_validation_loss"]
  assert record["cell_beta"] == pytest.approx(np.log(3)) and record["cell_cost_sum"] == pytest.approx(1 / 3)


def test_alpha_rests_in_the_warm_up():
  found = toy_choices.search(steps=10, warm_up=0.5)
  longer = toy_choices.search(steps=10, warm_up=1.0)
  assert np.any(found.alpha["rows"]) and not np.any(longer.alpha["rows"])
  assert np.all(np.asarray(longer.weights["scale"]) != 1)


def test_a_resumed_search_draws_what_the_whole_one_draws(tmp_path):
  every = nas.RunOptions(checkpoint=ruas_jax.CheckpointOptions(every=2))
  drawing = {"method": "gdas", "final_temperature": 0.0}
  whole = toy_choices.search(steps=6, **drawing)
  toy_choices.search(steps=4, workdir=tmp_path, run=every, **drawing)
  resumed = toy_choices.search(steps=6, workdir=tmp_path, run=every, **drawing)
  jax.tree.map(np.testing.assert_array_equal, whole.state, resumed.state)
  assert whole.metrics == resumed.metrics


def test_a_schedule_over_other_steps_is_another_run(tmp_path):
  toy_choices.search(steps=2, method="snas", workdir=tmp_path)
  with pytest.raises(UserError, match=r"belongs to another configuration.*search\.steps was 2 and is 4"):
    toy_choices.search(steps=4, method="snas", workdir=tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_finds_the_best_operations(method):
  assert toy_choices.search(method=method).derived == {"rows": toy_choices.BEST}


def test_a_population_sweeps_a_temperature():
  """Each member is the search with its temperature, where it is annealed too."""
  arguments = {"train": toy_choices.data(), "batch_size": 16}
  options = nas.SearchOptions(steps=4, method="snas")
  found = nas.search_population(
    toy_choices.problem(), sweep={"search.temperature": (1.0, 5.0)}, options=options, **arguments
  )
  for value, result in zip((1.0, 5.0), found.results, strict=True):
    alone = nas.search(toy_choices.problem(), options=dataclasses.replace(options, temperature=value), **arguments)
    np.testing.assert_allclose(result.alpha["rows"], alone.alpha["rows"], atol=1e-12)


def test_a_population_sweeps_regularisers():
  found = nas.search_population(
    toy_choices.problem(),
    train=toy_choices.data(),
    sweep={"search.regularisers.beta": (0.0, 5.0)},
    options=nas.SearchOptions(steps=10),
    batch_size=16,
    **toy_choices.SGD,
  )
  free, kept = (float(jnp.sum(result.alpha["rows"])) for result in found.results)
  assert kept < free - 0.5
  alone = nas.search(
    toy_choices.problem(),
    train=toy_choices.data(),
    options=nas.SearchOptions(steps=10, regularisers=("beta=5",)),
    batch_size=16,
    **toy_choices.SGD,
  )
  np.testing.assert_allclose(alone.alpha["rows"], found.results[1].alpha["rows"], atol=1e-9)


@pytest.mark.parametrize("name, method", [("temperature", "drnas"), ("perturbation_size", "gdas")])
def test_a_swept_number_that_the_method_does_not_use_is_refused(name, method):
  with pytest.raises(UserError, match=rf"^`sweep` search\.{name}: this method does not use it"):
    options = nas.SearchOptions(method=method)
    sweep = {f"search.{name}": (0.1, 0.2)}
    nas.search_population(toy_choices.problem(), train=toy_choices.data(), sweep=sweep, options=options)


@pytest.mark.parametrize(
  "name, value, options",
  [("temperature", 0.0, {}), ("perturbation_size", -1.0, {"perturbation": "random"})],
)
def test_a_swept_number_has_the_range_of_its_option(name, value, options):
  with pytest.raises(UserError, match=rf"^`search\.{name}` must be at least .*, not {value}"):
    sweep, given = {f"search.{name}": (0.5, value)}, nas.SearchOptions(**options)
    nas.search_population(toy_choices.problem(), train=toy_choices.data(), sweep=sweep, options=given)


# Options.


def test_a_method_gives_the_parts_that_are_not_given():
  assert set(METHODS) == set(MethodName.__args__)
  options = nas.SearchOptions(method="gdas", temperature=2.0)
  assert options.parts == dataclasses.replace(METHODS["gdas"].parts, temperature=2.0)
  assert nas.SearchOptions(method="gdas", relaxation="softmax", straight_through=False).parts.relaxation == "softmax"
  config = ruas_jax.load_config("tiny").with_overrides({"search.method": "beta_darts", "search.hypergradient": "cg"})
  assert config.search.parts == dataclasses.replace(METHODS["beta_darts"].parts, hypergradient="cg")
  config = config.with_overrides({"search.regularisers": ["entropy=1"], "search.regularisers.beta": 2.0})
  assert config.search.regularisers == ("entropy=1", "beta=2.0")
  assert config.with_overrides({"search.method": "darts"}).search.parts.ramp == 0


def test_a_run_folder_says_what_ran(tmp_path):
  small = {"data.crop": 8, "search.steps": 1, "network.illumination.stages": 1, "network.denoising.stages": 1}
  chosen = {"search.method": "fair_darts", "search.temperature": 2, "search.regularisers": "entropy=0.1"}
  options = [f"--{path}={value}" for path, value in (small | chosen).items()]
  assert ruas("search", "tiny", "--workdir", tmp_path / "run", *options) == 0
  text = json.loads((tmp_path / "run" / "config.json").read_text())
  assert text["search"]["method"] == "fair_darts" and text["search"]["relaxation"] is None
  assert text["parts"]["relaxation"] == "sigmoid" and text["parts"]["regularisers"] == ["entropy=0.1"]
  assert read_config(tmp_path / "run" / "config.json").search.parts.temperature == 2


def plain_player():
  return nas.SearchProblem(lambda key: ({}, {}), [nas.Player("cell", BilevelProblem(toy_choices.error, print))])


BAD = {
  "method": (dict(method="dart"), r"`search\.method` 'dart' is not one of .*perhaps you meant darts"),
  "relaxation": (dict(relaxation="gumble"), r"`search\.relaxation` 'gumble' is not one of .*perhaps you meant gumbel"),
  "term": (dict(regularisers=("entrpy=1",)), "'entrpy' is not one of .*perhaps you meant entropy"),
  "weight": (dict(regularisers=("beta=much",)), "must be NAME=NUMBER with a finite number, not 'beta=much'"),
  "no weight": (dict(regularisers=("beta",)), "must be NAME=NUMBER"),
  "annealing": (dict(annealing="linear"), r"`search\.annealing` has no effect without `search\.final_temperature`"),
  "size": (dict(perturbation_size=0.1), r"`search\.perturbation_size` has no effect without `search\.perturbation`"),
  "tuning": (dict(tuning_steps=3), r"`search\.tuning_steps` has no effect without `search\.selection`"),
  "straight": (dict(straight_through=True), r"`search\.straight_through` is for gumbel, not .* softmax"),
  "no temperature": (
    dict(method="drnas", temperature=2.0),
    r"`search\.temperature`: the relaxation dirichlet has none",
  ),
  "budget": (dict(selection="budget"), r"`search\.budget` and `search\.selection` budget need each other"),
  "no such cost": (
    dict(selection="budget", budget=("size=1",)),
    r"`search\.budget` size: the problem has no such cost; it has sizes.*meant sizes",
  ),
  "share": (dict(warm_up=2.0), r"`search\.warm_up` must be at most 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_one_line(name):
  options, said = BAD[name]
  with pytest.raises(UserError, match=said) as error:
    toy_choices.search(steps=1, problem=lambda: toy_choices.problem(costs={"sizes": jnp.sum}), **options)
  assert "\n" not in str(error.value)


def test_what_a_problem_does_not_have_is_one_line():
  search = lambda problem, **options: nas.search(problem, train=np.ones(4), options=nas.SearchOptions(**options))
  with pytest.raises(UserError, match=r"^`search\.relaxation` needs mixing weights, but player 'cell' is not relaxed"):
    search(plain_player(), method="gdas")
  with pytest.raises(UserError, match=r"^`search\.partial_channels` 4: this problem has no channels"):
    search(toy_choices.problem(channels=None), method="pc_darts")


@pytest.mark.parametrize(
  "argument, said",
  [
    ("--search.method=dart", "perhaps you meant darts"),
    ("--search.regularisers=bta=1", "perhaps you meant beta"),
    ("--population.sweep.search.regularisers.bta=1,2", "'bta' is not one of .*perhaps you meant beta"),
    ("--search.relaxation=softmax --search.straight-through=True", "--search.straight-through is for gumbel"),
  ],
)
def test_the_command_line_says_so_in_one_line(argument, said, tmp_path, capfd):
  assert ruas("search", "tiny", "--workdir", tmp_path / "run", *argument.split()) in (1, 2)
  lines = capfd.readouterr().err.splitlines()
  assert len(lines) == 1, lines
  assert re.search(said, lines[0])


# Selection.


def test_a_selection_within_a_budget_gives_up_the_least():
  rows = [np.array([0.1, 0.2, 0.7]), np.array([0.36, 0.4, 0.24]), np.array([0.05, 0.05, 0.9])]
  price = np.array([0, 1, 9])
  costs_of = lambda architectures: {"size": [price[list(one)].sum() for one in architectures]}
  assert within({"size": 100}, rows, costs_of) == (2, 1, 2)  # 19
  assert within({"size": 18}, rows, costs_of) == (2, 0, 2)  # loses .04 for 1
  assert within({"size": 17}, rows, costs_of) == (1, 0, 2)  # then .5 for 8
  assert within({"size": 9}, rows, costs_of) == (1, 0, 0)  # .85 for 9, which is less than .1 for 1
  assert within({"size": 0}, rows, costs_of) == (0, 0, 0)
  with pytest.raises(UserError, match=r"^`search\.budget` size=-1: no exchange of an operation gets below 0; allow"):
    within({"size": -1}, rows, costs_of)
  both = lambda architectures: costs_of(architectures) | {"skips": [one.count(0) for one in architectures]}
  assert within({"size": 3, "skips": 0}, rows, both) == (1, 1, 1)


def test_a_drawn_selection_has_the_mixing_weights_as_probabilities():
  rows, rng = [np.array([0.2, 0.3, 0.5]), np.array([1.0, 3.0])], np.random.default_rng(0)  # sigmoids do not sum to one
  drawn = np.array([sampled(rows, rng) for _ in range(4000)])
  np.testing.assert_allclose(np.eye(3)[drawn[:, 0]].mean(axis=0), rows[0], atol=0.04)  # five standard errors
  np.testing.assert_allclose(drawn[:, 1].mean(), 0.75, atol=0.035)


def test_darts_pt_finds_what_is_needed_where_mixing_weights_mislead():
  """The weights have learnt everything; alpha, which prefers others, is not asked."""
  misled = {"rows": 0.3 * jnp.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])}
  start = lambda key: (toy_choices.init(key)[0], misled)
  problem = lambda: dataclasses.replace(toy_choices.problem(), init=start)
  for selection, expected in (("argmax", [0, 1, 2]), ("perturbation", toy_choices.BEST)):
    found = toy_choices.search(problem=problem, warm_up=1.0, hypergradient="first_order", selection=selection)
    assert found.derived == {"rows": expected}
    np.testing.assert_array_equal(found.alpha["rows"], misled["rows"])
  options = nas.SearchOptions(steps=60, warm_up=1.0, hypergradient="first_order", selection="perturbation")
  sides = {"train": toy_choices.data(), "validation": toy_choices.data(seed=1)}
  members = nas.search_population(problem(), seeds=2, options=options, batch_size=16, **sides, **toy_choices.SGD)
  assert [member and member.derived for member in members.results] == [{"rows": toy_choices.BEST}] * 2


def test_a_budget_and_a_draw_reach_derive_in_a_search_and_a_population():
  costs = {"first": lambda shares: 1 - shares["rows"][:, 0].mean()}
  problem = toy_choices.problem(costs=costs)
  options = nas.SearchOptions(steps=3, selection="budget", budget=("first=0",))
  arguments = {"train": toy_choices.data(), "batch_size": 8}
  assert nas.search(problem, options=options, **arguments).derived == {"rows": [0, 0, 0]}
  options = dataclasses.replace(options, selection="sample", budget=None)
  found = nas.search_population(problem, seeds=4, options=options, **arguments)
  assert len({str(result and result.derived) for result in found.results}) > 1


# Early stops.


def test_rules_of_early_stopping():
  options = nas.DiagnosticsOptions(every=1, skips=2, match=0.5, window=3)
  assert [is_time("skips", options, past) for past in ([2, 1], [1, 2], [3])] == [False, True, True]
  below, above, few = [0.9, 0.6, 0.4, 0.4], [0.1, 0.9, 0.5, 0.4], [0.1, 0.1]
  assert [is_time("gradient_match", options, past) for past in (below, above, few)] == [True, False, False]


def test_a_search_stops_when_skip_is_chosen_too_often():
  """The measurement is the number of choices that are skip; the result is the alpha of that time."""
  liking = lambda shares: -jnp.sum(shares["rows"][:, 0])
  problem = lambda: toy_choices.problem(costs={"skip": liking})
  pressed = {"cost": "skip", "cost_weight": 100.0}
  found = toy_choices.search(
    problem=problem, method="darts_plus", diagnostics=nas.DiagnosticsOptions(skips=3), **pressed
  )
  last = found.metrics[-1]
  assert len(found.metrics) < 10 and last["early_stop"] == 1 and last["cell_skips"] == 3
  assert "cell_hessian_largest" not in last and found.derived == {"rows": [0, 0, 0]}
  plain = toy_choices.search(problem=problem, steps=len(found.metrics), method="first_order_darts", **pressed)
  np.testing.assert_allclose(found.alpha["rows"], plain.alpha["rows"], atol=1e-12)


def test_equal_logits_are_no_choice_of_skip():
  """Skip is the first operation, and alpha rests at zero."""
  found = toy_choices.search(steps=3, method="darts_plus", warm_up=1.0)
  assert [record["cell_skips"] for record in found.metrics] == [0, 0, 0]


def test_a_search_stops_when_gradients_disagree():
  """The measurement is the cosine of the gradients of the weights, here of the whole data."""
  opposed = dict(diagnostics=nas.DiagnosticsOptions(every=2, window=2, match=0.0), method="oles", steps=8)
  against = lambda weights, shares, batch: -toy_choices.error(weights, shares, batch)
  player = nas.Player("cell", BilevelProblem(toy_choices.error, against), relaxed=True)
  found = toy_choices.search(problem=lambda: dataclasses.replace(toy_choices.problem(), players=[player]), **opposed)
  assert len(found.metrics) == 4 and -1 <= found.metrics[-1]["cell_gradient_match"] < 0
  assert len(toy_choices.search(**opposed).metrics) == 8


def test_members_of_a_population_stop_as_searches_do(tmp_path):
  """Each after its own number of steps, and with the alpha of the measurement before; also after a stop in between."""
  measured = nas.DiagnosticsOptions(every=1, batches=2, window=1, threshold=0.8)
  options = dict(method="robust_darts", diagnostics=measured)
  population = functools.partial(
    nas.search_population,
    toy_choices.problem(),
    train=toy_choices.data(),
    validation=toy_choices.data(seed=1),
    batch_size=16,
    seeds=4,
    **toy_choices.SGD,
  )
  population(options=nas.SearchOptions(steps=3, **options), workdir=tmp_path)
  found = population(options=nas.SearchOptions(steps=8, **options), workdir=tmp_path)
  lengths = [len(records) for records in found.metrics]
  again = population(options=nas.SearchOptions(steps=10, **options), workdir=tmp_path)
  assert [len(records) for records in again.metrics] == lengths  # all have ended
  assert 1 < min(lengths) < max(lengths) < 8
  for seed in (int(np.argmin(lengths)), int(np.argmax(lengths))):
    result, single = found.results[seed], toy_choices.search(steps=8, seed=seed, **options)
    np.testing.assert_allclose(result.alpha["rows"], single.alpha["rows"], rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(result.metrics, single.metrics, strict=True):
      assert ours.keys() == theirs.keys()
      for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-6, atol=1e-9, err_msg=name)


def test_diagnostics_are_those_of_the_mean_mixing_weights():
  """A draw of the Dirichlet distribution has no second derivative, its mean has."""
  diagnostics = nas.DiagnosticsOptions(every=1, batches=1)
  found = toy_choices.search(steps=1, method="drnas", diagnostics=diagnostics, optimizers=STILL)
  plain = toy_choices.search(steps=1, relaxation="softmax", diagnostics=diagnostics, optimizers=STILL)
  direct = [result.metrics[0]["cell_direct_norm"] for result in (found, plain)]
  # the mean is (elu(a) + 1) / sum: at zero its derivative is that of the softmax
  assert direct[0] == pytest.approx(direct[1], rel=1e-9) and np.isfinite(found.metrics[0]["cell_hessian_largest"])


def test_no_skip_is_one_line():
  with pytest.raises(UserError, match=r"^`search\.stop` skips: this problem has no operation that passes its input on"):
    toy_choices.search(problem=lambda: toy_choices.problem(skip=None), method="darts_plus")


def test_the_page_has_every_method():
  page = (pathlib.Path(ruas_jax.__file__).parents[1] / "docs" / "search.md").read_text()
  rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*\d{4}) \|$", page, re.MULTILINE)
  assert rows == [(name, method.change, method.paper) for name, method in METHODS.items()]
