"""The wide space: its supernet is every network in it, and a mixture of them; its costs, and what a search derives."""

import dataclasses
import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_problem

from ruas_jax.config import read_config
from ruas_jax.data.sources import ImageArrays
from ruas_jax.errors import UserError
from ruas_jax.experiments.report import report
from ruas_jax.experiments.search import search
from ruas_jax.experiments.setting import search_identity, search_setting
from ruas_jax.experiments.train import train
from ruas_jax.lowlight.cost import mac_cost, parameter_cost
from ruas_jax.lowlight.genotype import EDGES, PUBLISHED, Genotype, Sizes
from ruas_jax.lowlight.network import build_network, count_folded_macs, run
from ruas_jax.lowlight.operations import operation_names
from ruas_jax.lowlight.options import RELEASED, DenoisingOptions, IlluminationOptions, NetworkOptions
from ruas_jax.lowlight.space import channel_choices, channel_mask, derive, named_choices, size_values
from ruas_jax.photos.model import load
from ruas_jax.plots import plot_alpha

pytestmark = pytest.mark.usefixtures("x64_module")

OPERATIONS = tiny_problem.FEW
NAMES = operation_names(OPERATIONS)
STAGES = {"illumination": IlluminationOptions(stages=2), "denoising": DenoisingOptions(stages=2, channels=5)}
PAPER = NetworkOptions(**STAGES, space="wide", smoothing=0.05)
FORMS = {
  "paper": PAPER,
  "guided, in blocks": dataclasses.replace(
    PAPER, denoising=DenoisingOptions(stages=2, channels=5, guided=True), layout="blocks"
  ),
  "released": dataclasses.replace(
    RELEASED,
    space="wide",
    illumination=dataclasses.replace(RELEASED.illumination, stages=2),
    denoising=dataclasses.replace(RELEASED.denoising, stages=2, channels=5),
  ),
}
SIZES = [Sizes(1, 2, 2), Sizes(2, 1, 4), Sizes(2, 2, 5)]
IMAGES = np.random.default_rng(0).uniform(0.0, 0.4, size=(1, 6, 5, 3))


def genotype_of(sizes, seed=0):
  rng = np.random.default_rng(seed)
  return Genotype(*(tuple(rng.choice(NAMES, 7).tolist()) for _ in range(2)), sizes)


def one_hot(genotype, options, names=NAMES):
  """Mixing weights of a genotype with sizes."""
  position = {
    name: values.index(size) for (name, values), size in zip(size_values(options).items(), genotype.sizes, strict=True)
  }
  rows = {cell: np.eye(len(names))[[names.index(name) for name in getattr(genotype, cell)]] for cell in STAGES}
  hot = {name: np.eye(len(values))[position[name]] for name, values in size_values(options).items()}
  return {
    "illumination": {"edges": rows["illumination"], "stages": hot["illumination_stages"]},
    "denoising": {
      "edges": rows["denoising"],
      "stages": hot["denoising_stages"],
      "channels": hot["denoising_channels"],
    },
  }


def first_of_each_axis(weights, shapes, operations, channels):
  """The supernet's weights of one cell as those of a derived cell: the first stages and the first channels."""
  fusion = weights["fusion"]["kernel"]
  stages, *_, width, out = fusion.shape
  fusion = fusion.reshape(stages, 1, 1, 4, width // 4, out)[:, :, :, :, :channels].reshape(stages, 1, 1, -1, out)
  of_edge = dict(zip(EDGES, operations, strict=True))
  edges = {
    edge: jax.tree.map(lambda leaf, at=EDGES.index(edge): leaf[:, at], weights["edges"][of_edge[edge]])
    for edge in shapes["edges"]
  }
  return first_of({"edges": edges, "fusion": {"kernel": fusion, "bias": weights["fusion"]["bias"]}}, shapes)


def first_of(weights, shapes):
  return jax.tree.map(lambda leaf, shape: leaf[tuple(map(slice, shape.shape))], weights, shapes)


@functools.cache
def supernet(form):
  network = build_network(FORMS[form], operations=OPERATIONS)
  weights = jax.jit(functools.partial(network.init_weights, dtype=jnp.float64))(jax.random.key(0))
  moved = jax.tree.map(lambda leaf: leaf + 0.01, weights)  # biases are not zero
  return network, moved, jax.jit(lambda shares: run(network, "i+n", moved, shares, IMAGES))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_with_one_hot_mixing_weights_it_is_the_smaller_network(form, sizes):
  genotype = genotype_of(sizes)
  network, (_, weights, of_shares) = build_network(FORMS[form], genotype, OPERATIONS), supernet(form)
  shapes = network.weight_shapes()
  of_cells, cells = weights["denoising"]["cells"], shapes["denoising"]["cells"]
  ends = {name: first_of(weights["denoising"][name], shapes["denoising"][name]) for name in ("stem", "head")}
  derived = {
    "illumination": first_of_each_axis(weights["illumination"], shapes["illumination"], genotype.illumination, 3),
    "denoising": ends | {"cells": first_of_each_axis(of_cells, cells, genotype.denoising, sizes.channels)},
  }
  expected = jax.jit(lambda: run(network, "i+n", derived, {}, IMAGES))()
  found = of_shares(one_hot(genotype, FORMS[form]))
  np.testing.assert_allclose(found.x, expected.x, rtol=0, atol=1e-13)
  assert np.ptp(np.asarray(found.x)) > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_a_mixture_of_stages_is_the_mean_of_their_results(form):
  *_, of_shares = supernet(form)
  shares, weights = one_hot(genotype_of(SIZES[2]), FORMS[form]), np.array([0.3, 0.7])
  mixed = shares | {"denoising": shares["denoising"] | {"stages": weights}}
  each = [shares | {"denoising": shares["denoising"] | {"stages": np.eye(2)[stage]}} for stage in range(2)]
  expected = sum(weight * of_shares(one).x for weight, one in zip(weights, each, strict=True))
  np.testing.assert_allclose(of_shares(mixed).x, expected, rtol=0, atol=1e-14)


def test_stages_of_the_illumination_are_mixed_before_noise_removal():
  network, weights, _ = supernet("paper")
  shares = one_hot(genotype_of(SIZES[2]), PAPER)["illumination"]
  of_stages = lambda stages: network.illumination(weights["illumination"], shares | {"stages": stages}, IMAGES)
  mixed, *each = (of_stages(np.array(stages)) for stages in ((0.3, 0.7), (1.0, 0.0), (0.0, 1.0)))
  for name in ("result", "illumination", "estimate"):
    first, second = (getattr(one, name) for one in each)
    np.testing.assert_allclose(getattr(mixed, name), 0.3 * first + 0.7 * second, rtol=0, atol=1e-14)
    assert np.max(np.abs(first - second)) > 1e-4
  np.testing.assert_array_equal(each[1].result, each[1].u[-1])
  np.testing.assert_array_equal(each[0].result, each[0].u[0])


def test_channels_come_in_quarters():
  assert [channel_choices(most) for most in (1, 2, 5, 6, 12)] == [
    (1,),
    (1, 2),
    (2, 3, 4, 5),
    (2, 3, 5, 6),
    (3, 6, 9, 12),
  ]
  np.testing.assert_allclose(channel_mask(jnp.array([0.1, 0.2, 0.3, 0.4]), 5), [1.0, 1.0, 0.9, 0.7, 0.4])


def test_the_gradient_is_that_of_central_differences():
  network, weights, _ = supernet("paper")
  alpha = jax.tree.map(
    lambda leaf: 0.3 * np.random.default_rng(leaf.size).normal(size=leaf.shape), network.init_alpha()
  )

  @jax.jit
  def loss(alpha):
    shares = jax.tree.map(jax.nn.softmax, alpha)
    return jnp.sum(run(network, "i+n", weights, shares, IMAGES).x ** 2)

  gradient, step = jax.jit(jax.grad(loss))(alpha), 1e-5
  for module, name in (("illumination", "stages"), ("denoising", "stages"), ("denoising", "channels")):
    for index in range(len(alpha[module][name])):
      by = step * np.eye(len(alpha[module][name]))[index]
      moved = [alpha | {module: alpha[module] | {name: alpha[module][name] + sign * by}} for sign in (1, -1)]
      slope = (loss(moved[0]) - loss(moved[1])) / (2 * step)
      assert float(gradient[module][name][index]) == pytest.approx(float(slope), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_mixing_weights_of_sizes_need_not_sum_to_one(factor):
  """Those of the relaxation sigmoid do not, and the selection by perturbation leaves an alternative out."""
  *_, of_shares = supernet("paper")
  cost, shares = mac_cost(PAPER, OPERATIONS), one_hot(genotype_of(SIZES[1]), PAPER)
  shares["illumination"]["stages"], shares["denoising"]["stages"] = np.array([0.25, 0.75]), np.array([0.5, 0.5])
  shares["denoising"]["channels"] = np.array([0.1, 0.2, 0.3, 0.4])
  scaled = {
    module: {name: leaf if name == "edges" else factor * leaf for name, leaf in part.items()}
    for module, part in shares.items()
  }
  np.testing.assert_allclose(of_shares(scaled).x, of_shares(shares).x, rtol=0, atol=1e-14)
  assert float(cost.expected(scaled)) == pytest.approx(float(cost.expected(shares)), rel=1e-13)


# Costs.


@pytest.mark.parametrize("form", FORMS)
def test_costs_are_those_that_are_counted(form):
  options = FORMS[form]
  parameters, macs = parameter_cost(options, OPERATIONS), mac_cost(options, OPERATIONS)
  for sizes in SIZES:
    genotype = genotype_of(sizes, seed=1)
    derived, shares = build_network(options, genotype, OPERATIONS), one_hot(genotype, options)
    assert parameters.of(genotype) == derived.parameters() == parameters.expected(shares)
    assert macs.of(genotype) == count_folded_macs(derived, "i+n", 1, 1) == macs.expected(shares)


def test_the_expected_cost_is_the_mean_over_sizes():
  rng, cost = np.random.default_rng(0), mac_cost(PAPER, OPERATIONS)
  genotype, values = genotype_of(SIZES[0]), size_values(PAPER)
  chances = {name: rng.dirichlet(np.ones(len(each))) for name, each in values.items()}
  mean = 0.0
  for positions in itertools.product(*map(range, map(len, values.values()))):
    chance = np.prod([chances[name][position] for name, position in zip(values, positions, strict=True)])
    sizes = Sizes._make(each[position] for each, position in zip(values.values(), positions, strict=True))
    mean += chance * cost.of(dataclasses.replace(genotype, sizes=sizes))
  shares = one_hot(genotype, PAPER)
  shares["illumination"]["stages"] = chances["illumination_stages"]
  shares["denoising"] |= {"stages": chances["denoising_stages"], "channels": chances["denoising_channels"]}
  assert float(cost.expected(shares)) == pytest.approx(mean, rel=1e-12)


def test_the_extremes_are_those_of_all_sizes():
  cost, wide = mac_cost(PAPER, OPERATIONS), NAMES[-1]
  alike = lambda name, sizes: cost.of(Genotype((name,) * 7, (name,) * 7, sizes))
  assert cost.largest == alike(wide, Sizes(2, 2, 5))
  assert cost.smallest == alike("skip", Sizes(1, 1, 2))
  narrow = mac_cost(NetworkOptions(**STAGES), OPERATIONS)
  for of, genotype in (
    (cost, PUBLISHED),
    (cost, genotype_of(Sizes(3, 1, 5))),
    (narrow, genotype_of(SIZES[0])),
  ):
    with pytest.raises(UserError, match=r"^the sizes of genotype .* are not in the space of this cost, which has"):
      of.of(genotype)


# What a search derives.


def alpha_of(**sizes):
  edges = np.tile([0.0, 0.0, 1.0], (7, 1))
  return {
    "illumination": {"edges": edges, "stages": np.array(sizes.get("k", [0.0, 1.0]))},
    "denoising": {"edges": edges, "stages": np.array([1.0, 0.0]), "channels": np.array([0.0, 0.0, 2.0, 0.0])},
  }


def test_the_strongest_sizes_are_derived():
  assert derive(alpha_of(), NAMES, PAPER).sizes == Sizes(2, 1, 4)
  narrow = {name: part["edges"] for name, part in alpha_of().items()}
  assert derive(narrow, NAMES, NetworkOptions()).sizes is None
  assert set(named_choices(alpha_of())) == {"illumination", "denoising", *size_values(PAPER)}
  for wrong in ([0.0, np.nan], [0.0, 1.0, 2.0]):
    with pytest.raises(UserError, match="alpha of illumination_stages: expected 2 logits with a defined softmax"):
      derive(alpha_of(k=wrong), NAMES, PAPER)


def test_a_limit_on_the_parameters_is_kept_by_smaller_sizes_too():
  config = dataclasses.replace(tiny_problem.get_config(), network=PAPER)
  problem = lambda most: (
    search_setting(config.with_overrides({"search.parameters": most}), operations=OPERATIONS).problem
  )
  size = parameter_cost(PAPER, OPERATIONS)
  for most in (10_000, 700, int(size.smallest)):
    found = Genotype.from_dict(problem(most).derive(alpha_of()))
    assert size.of(found) <= most
  with pytest.raises(UserError, match=r"`search\.parameters` 50: the smallest network of these candidates has"):
    problem(50)


def test_a_limit_exchanges_what_is_preferred_least():
  """A second stage that alpha prefers stays, and one that it hardly prefers goes."""
  config = dataclasses.replace(tiny_problem.get_config(), network=PAPER)
  size = parameter_cost(PAPER, OPERATIONS)
  strongest = Genotype(("skip",) * 7, ("skip",) * 7, Sizes(2, 2, 5))
  edges = np.tile([9.0, 0.0, 0.0], (7, 1))
  own = {
    "illumination": {"edges": edges, "stages": np.array([0.0, 1e-3])},
    "denoising": {"edges": edges, "stages": np.array([0.0, 9.0]), "channels": np.array([0.0, 0.0, 0.0, 9.0])},
  }
  most = int(size.of(strongest)) - 1
  problem = search_setting(config.with_overrides({"search.parameters": most}), operations=OPERATIONS).problem
  assert Genotype.from_dict(problem.derive(own)) == dataclasses.replace(strongest, sizes=Sizes(1, 2, 5))


def test_the_statistics_have_the_mean_sizes():
  statistics = search_setting(
    dataclasses.replace(tiny_problem.get_config(), network=PAPER), operations=OPERATIONS
  ).problem.statistics(jax.tree.map(jnp.asarray, alpha_of(k=[0.0, np.log(3.0)])))
  assert float(statistics["illumination_stages"]) == pytest.approx(0.25 * 1 + 0.75 * 2)
  assert {"denoising_stages", "denoising_channels", "denoising_entropy"} < set(statistics)


@pytest.mark.parametrize("sizes", [None, Sizes(1, 12, 4)])
def test_a_genotype_is_written_and_read_with_its_sizes(sizes, tmp_path):
  genotype = dataclasses.replace(PUBLISHED, sizes=sizes)
  assert str(genotype).endswith("SC]" if sizes is None else "SC] K=1 N=12 C=4")
  assert Genotype.from_text(str(genotype)) == Genotype.from_json(genotype.to_json()) == genotype
  genotype.save(tmp_path / "genotype.json")
  assert Genotype.load(tmp_path / "genotype.json") == genotype


@pytest.mark.parametrize(
  ("sizes", "message"),
  [
    ({"channels": 0}, "genotype, sizes, channels: 0 is not an integer of at least 1"),
    ({"channels": "4"}, "genotype, sizes, channels: '4' is not an integer"),
    ({"channels": True}, "genotype, sizes, channels: True is not an integer"),
    ({"width": 4}, "genotype, sizes: unknown width"),
    (None, None),
  ],
)
def test_wrong_sizes_are_one_line(sizes, message):
  record = json.loads(PUBLISHED.to_json())
  if sizes is None:  # as if there were none
    assert Genotype.from_dict(record | {"sizes": None}) == PUBLISHED
    return
  with pytest.raises(UserError, match=f"^{message}"):
    Genotype.from_dict(record | {"sizes": Sizes(1, 1, 4)._asdict() | sizes})


def test_sizes_may_be_integers_of_numpy_but_no_tuple():
  genotype = dataclasses.replace(PUBLISHED, sizes=Sizes(np.int64(1), np.int32(2), 4))
  assert genotype.sizes == Sizes(1, 2, 4) and json.loads(genotype.to_json())["sizes"]["denoising_stages"] == 2
  for wrong in ((1, 1, 4), ()):
    with pytest.raises(UserError, match=r"^genotype, sizes: expected Sizes\("):
      dataclasses.replace(PUBLISHED, sizes=wrong)


def test_runs_from_before_there_were_spaces_go_on():
  """The identity of a run in RUAS's space does not name the space."""
  config = tiny_problem.get_config()
  for space, named in (("ruas", False), ("wide", True)):
    identity = search_identity("search", config.with_overrides({"network.space": space}), images={})
    assert ("space" in identity["config"]["network"]) == named


def test_the_picture_marks_the_sizes(tmp_path):
  alpha = named_choices(alpha_of())
  for channels in (2, 5):
    genotype = genotype_of(Sizes(1, 1, channels))
    plot_alpha(tmp_path / f"{channels}.png", alpha, NAMES, genotype, size_values(PAPER))
  assert (tmp_path / "2.png").read_bytes() != (tmp_path / "5.png").read_bytes()


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"search.method": "pc_darts"}, "`search.partial_channels` 4: this problem has no channels"),
    ({"search.stop": "skips"}, "`search.stop` skips: this problem has no operation that passes its input on"),
    ({"search.latency_table": "table.json"}, "`search.latency_table` is for `network.space` ruas"),
  ],
)
def test_what_the_wide_space_cannot_do_is_one_line(options, message):
  config = dataclasses.replace(tiny_problem.get_config(), network=PAPER)
  with pytest.raises(UserError, match=f"^{message}"):
    search_setting(config.with_overrides(options), operations=OPERATIONS)


def test_a_search_finds_sizes_that_a_training_takes(tmp_path):
  """Cost alone decides here: alpha goes to the smallest network."""
  config = tiny_problem.get_config().with_overrides(
    {
      "network.space": "wide",
      "network.illumination.stages": 2,
      "network.denoising.channels": 4,
      "search.cost": "macs",
      "search.cost_weight": 1000.0,
    }
  )
  images = ImageArrays("abcd", tiny_problem.dark_images(4))
  with jax.enable_x64(False):
    found = search(config, workdir=tmp_path / "search", train_images=images)
    assert found.genotype.sizes == Sizes(1, 1, 1)
    saved = Genotype.load(tmp_path / "search" / "genotype.json")
    with np.load(tmp_path / "search" / "alpha.npz") as alpha:
      assert {"illumination", "illumination_stages", "denoising_stages", "denoising_channels"} < set(alpha.files)
      assert alpha["denoising_channels"].argmax() == 0
    report(tmp_path / "search", out=tmp_path / "report.html", photographs=0)
    trained = train(config, saved, workdir=tmp_path / "train", images=images).model
    again = load(tmp_path / "train")
  text = (tmp_path / "report.html").read_text()
  assert "K=1 N=1 C=1" in text and "denoising channels" in text
  assert 'id="alpha-at"' in text  # the slider: alpha was read from the log too
  assert again.genotype == saved == found.genotype and again.options == trained.options
  assert (again.options.space, again.options.denoising.channels) == ("ruas", 1)
  assert read_config(tmp_path / "train" / "config.json").network == again.options
  assert again.weights["denoising"]["stem"]["kernel"].shape[-1] == 1
