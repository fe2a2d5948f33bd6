"""Tables of architectures: lookups, statistics against values by hand, damaged files, and the maker, which resumes."""

import dataclasses
import itertools
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.tabular.assembling import content_of
from benchmarks.tabular.making import Entry, entries_of, train_entries
from benchmarks.tabular.training import make_training
from benchmarks.tabular.what_matters import explained
from ruas_jax import nas
from ruas_jax.errors import UserError
from ruas_jax.evaluation.metrics import psnr, ssim
from ruas_jax.lowlight.cell import Cell
from ruas_jax.lowlight.kinks import leaky_relu
from ruas_jax.nas.benchmark import Data, Noise, Recipe, Space
from ruas_jax.nas.benchmark.methods import _losses, arguments_of, supernet_losses
from ruas_jax.nas.benchmark.statistics import measure_noise, percentile
from ruas_jax.nas.benchmark.storage import Content, read_table, write_table
from ruas_jax.nas.benchmark.table import FOLDER
from ruas_jax.search_spaces import denoising, digits

# Four architectures on two edges, seed 1 for two of them, two lengths.
PSNR = [[[1, 10], [2, 20], [3, 30], [4, 40]], [[5, 14], [np.nan] * 2, [np.nan] * 2, [6, 46]]]
ABOUT = {"space": "tiny", "edges": ["first", "second"], "operations": ["skip", "dense"], "objective": "psnr"}
CONTENT = Content(
  ABOUT | {"lengths": [5, 10], "card": "a card"},
  {"psnr": np.array(PSNR, np.float32)},
  {"parameters": np.array([0, 7, 7, 14], np.int32)},
)


@pytest.fixture
def table():
  return nas.benchmark.Table(CONTENT)


def test_a_query_gives_metrics_and_costs(table):
  assert table.query(("skip", "skip")) == {"psnr": 12, "parameters": 0}  # the mean of 10 and 14
  assert table.query(("skip", "skip"), seed=1, steps=5) == {"psnr": 5, "parameters": 0}
  assert table.query((1, 0)) == table.query({"second": "skip", "first": "dense"}) == {"psnr": 30, "parameters": 7}
  assert [table.index(each) for each in table.architectures] == [0, 1, 2, 3]
  assert table.seeds_of(("dense", "dense")) == [0, 1]


@pytest.mark.parametrize(
  ("action", "words"),
  [
    (lambda table: table.query(("skip", "conv")), ["second", "'conv'", "skip, dense"]),
    (lambda table: table.query({"first": "skip", "third": "skip"}), ["'third'", "first, second"]),
    (lambda table: table.query({"first": "skip"}), ["'second'"]),
    (lambda table: table.query((0, 2)), ["second", "2"]),
    (lambda table: table.query(("skip",)), ["2 operations", "first, second"]),
    (lambda table: table.query("skip"), ["2 operations"]),
    (lambda table: table.query(("skip", "dense"), seed=1), ["seed 1", "[0]"]),
    (lambda table: table.query(("skip", "dense"), steps=7), ["7 steps", "5, 10"]),
    (lambda table: table.column("ssim"), ["'ssim'", "psnr"]),
    (lambda table: table.rank_correlation([1, 2]), ["4 scores"]),
    (lambda table: table.rank_correlation([1, 2, np.nan, 4]), ["finite"]),
    (lambda table: table.search_problem(), ["tiny", "no search space"]),
    (lambda table: nas.benchmark.load("nowhere"), ["'nowhere'", "denoising"]),
  ],
)
def test_what_is_not_in_the_table_is_named(table, action, words):
  with pytest.raises(UserError) as error:
    action(table)
  assert "\n" not in str(error.value) and all(word in str(error.value) for word in words)


def test_what_a_search_finds_is_rated(table):
  assert table.column().tolist() == [12, 20, 30, 43]
  assert table.rate(("dense", "skip")) == {"psnr": 30, "parameters": 7, "regret": 13, "percentile": 62.5}
  assert percentile(np.array([1, 2, 2, 3]), 2) == 50


def test_scores_are_compared_with_the_truth(table):
  assert table.rank_correlation([1, 2, 3, 4])["tau"] == pytest.approx(1)
  assert table.rank_correlation([2, 1, 3, 4])["tau"] == pytest.approx(4 / 6)  # one of six pairs is exchanged
  assert table.rank_correlation({("dense", "dense"): 1.0, ("skip", "dense"): 2.0})["tau"] == pytest.approx(-1)


def test_noise_and_spread_are_those_by_hand(table):
  """Deviations 2, 2 and 3, 3 of the two seeds: variances 8 and 18 with one degree of freedom each."""
  noise = table.noise()
  assert noise.noise == pytest.approx(np.sqrt((8 + 18) / 2))
  assert noise.spread == pytest.approx(np.sqrt(np.var([10, 20, 30, 40], ddof=1) - 13))
  assert noise.ratio == pytest.approx(noise.noise / noise.spread)


def test_the_ceiling_is_the_correlation_of_the_truth_with_its_noisy_table():
  """A table is simulated with noise of half its spread; the ceiling is found from the table alone."""
  rng = np.random.default_rng(1)
  true, noise = rng.normal(size=400), 0.5
  values = true + noise * rng.normal(size=(3, 400))
  values[1:, 100:] = np.nan
  found: Noise = measure_noise(values)
  means = np.where(np.arange(400) < 100, np.mean(values, axis=0), values[0])
  pairs = list(itertools.combinations(range(400), 2))
  first, second = (np.array(side) for side in zip(*pairs, strict=True))
  tau = np.mean(np.sign(true[first] - true[second]) * np.sign(means[first] - means[second]))
  assert found.noise == pytest.approx(noise, rel=0.1) and found.spread == pytest.approx(1, rel=0.15)
  assert found.ceiling == pytest.approx(tau, abs=0.06)  # one table's tau varies by 0.02
  assert measure_noise(np.stack([true, true])).ceiling == pytest.approx(1)


def test_a_file_holds_the_table(tmp_path):
  write_table(tmp_path / "tiny.npz", CONTENT)
  table = nas.benchmark.load(tmp_path / "tiny.npz")
  np.testing.assert_array_equal(table.metrics["psnr"], CONTENT.metrics["psnr"])
  assert table.query(("dense", "dense")) == {"psnr": 43, "parameters": 14} and table.card == "a card"


def test_a_damaged_file_is_one_clear_line(tmp_path):
  """Cut off, or with a changed byte: an error with the file's name, or the same content."""
  path = tmp_path / "tiny.npz"
  write_table(path, CONTENT)
  whole, refused = path.read_bytes(), 0
  damaged = [whole[:cut] for cut in (0, 1, len(whole) // 2, len(whole) - 1)]
  for position in range(0, len(whole), 7):
    damaged.append(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
  for content in damaged:
    path.write_bytes(content)
    try:
      found = read_table(path)
    except UserError as error:
      refused += 1
      assert str(path) in str(error) and "\n" not in str(error)
    else:
      assert found.about == CONTENT.about
      np.testing.assert_array_equal(found.metrics["psnr"], CONTENT.metrics["psnr"])
  assert refused > len(damaged) / 2
  with pytest.raises(UserError, match=r"nothing\.npz.*No such file"):
    read_table(tmp_path / "nothing.npz")


# The two tables of the package.


@pytest.mark.parametrize(("name", "count", "several"), [("denoising", 2401, 300), ("digits", 256, 256)])
def test_the_package_has_complete_tables(name, count, several):
  table = nas.benchmark.load(name)
  seeds = np.isfinite(table.metrics[table.objective][:, :, -1]).sum(axis=0)
  assert len(table) == count and seeds.min() >= 1 and np.sum(seeds == 3) == several
  assert len(table.lengths) == 4 and {"train_loss", "validation_loss"} < set(table.metrics)
  assert table.noise().ratio <= 0.25 and 0 < table.noise().ceiling < 1
  for word in ("seeds", "Licence", "ceiling", f"benchmarks.tabular make {name}"):
    assert word in table.card
  architecture = table.architectures[5]
  space = table.space
  assert table.query(architecture)["parameters"] == space.parameters(architecture)
  assert space.architectures() == table.architectures and space.recipe.lengths == table.lengths


def test_the_tables_are_small():
  sizes = [file.stat().st_size for file in FOLDER.glob("*.npz")]
  assert len(sizes) == 2 and sum(sizes) <= 2e6


# The space of images.


@pytest.fixture(scope="module")
def denoised():
  """Weights with biases, an architecture, its shares, and noisy images."""
  network, key = denoising.SPACE.network, jax.random.key(0)
  shift = lambda leaf: leaf + 0.1 * jax.random.normal(key, leaf.shape)
  weights = jax.jit(lambda: jax.tree.map(shift, network.init(key)))()
  choice = [2, 6, 0, 4]
  shares = jax.nn.one_hot(jnp.array(choice), len(denoising.SPACE.operations))
  return (
    weights,
    [denoising.SPACE.operations[index] for index in choice],
    shares,
    jax.random.uniform(key, (1, 12, 16, 3)),
  )


def test_one_operation_per_edge_is_the_derived_cell(denoised):
  """The supernet with shares of zeros and ones is the cell of lowlight with these operations."""
  weights, names, shares, images = denoised
  run = jax.jit(denoising.SPACE.network.__call__)
  cell = Cell(denoising.CHANNELS, genotype=(*itertools.chain(*((name, "conv_1x1") for name in names[:3])), names[3]))
  edges = {f"remain_{index}": weights[f"remain_{index}"] for index in (1, 2, 3)}
  for index, name in enumerate(names):
    if name in weights["edges"]:
      edges[f"distill_{index + 1}"] = jax.tree.map(lambda leaf: leaf[index], weights["edges"][name])
  y = 4 * (jnp.moveaxis(images, -1, 1) - 0.5)
  pointwise = lambda image, of: jnp.einsum("bchw,co->bohw", image, of["kernel"][0, 0]) + of["bias"][:, None, None][None]

  @jax.jit
  def noise(y):
    folded = cell.fold({"edges": edges, "fusion": weights["fusion"]}, None)
    fused = cell.apply(folded, pointwise(y, weights["stem"]), leaky_relu(0.05))
    return pointwise(fused, weights["head"])

  expected = jnp.moveaxis(y - noise(y), 1, -1) / 4 + 0.5
  np.testing.assert_allclose(run(weights, shares, images), expected, rtol=0, atol=2e-6)
  used = edges, weights["fusion"], weights["stem"], weights["head"]
  assert denoising.parameters(tuple(names)) == sum(leaf.size for leaf in jax.tree.leaves(used))
  kernels = [leaf.size for path, leaf in jax.tree.leaves_with_path(used) if path[-1].key == "kernel"]
  assert denoising.macs(tuple(names)) == sum(kernels)


def test_the_trained_form_is_the_supernet_at_one_hot_shares(denoised):
  """Loss and gradients are the same numbers, although only the taps of the chosen operations are computed."""
  weights, _, shares, images = denoised
  of = lambda network: jax.jit(jax.value_and_grad(network.loss))(weights, shares, images)
  for one, other in zip(
    *(jax.tree.leaves(of(each)) for each in (denoising.SPACE.network, denoising.SPACE.trained)), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_comparing_architectures_takes_no_convolution_for_each(denoised):
  """The losses of many architectures are those of each, and the loop over them only selects, adds and compares."""
  weights, _, _, images = denoised
  architectures = np.random.default_rng(0).integers(7, size=(5, 4))
  small = {"image": np.uint8(255 * np.asarray(images))}
  space = dataclasses.replace(denoising.SPACE, data=lambda: Data({}, small, {}))
  names = [[space.operations[index] for index in architecture] for architecture in architectures]
  found, expected = (supernet_losses(of, weights, names) for of in (space, dataclasses.replace(space, compared=None)))
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert np.ptp(expected) > 1e-4
  trained, compared = (
    _convolutions_in_loops(jax.make_jaxpr(_losses(of))(weights, architectures, small))
    for of in (dataclasses.replace(space, compared=None), space)
  )
  assert trained > 0 and compared == 0


def _convolutions_in_loops(jaxpr, inside=False):
  """The number of convolutions in the bodies of loops."""
  count = 0
  for equation in jaxpr.eqns:
    count += inside and equation.primitive.name == "ruas_convolve"
    for parameter in equation.params.values():
      if hasattr(parameter, "jaxpr") or hasattr(parameter, "eqns"):
        inner = getattr(parameter, "jaxpr", parameter)
        count += _convolutions_in_loops(inner, inside or equation.primitive.name == "scan")
  return count


def test_its_metrics_follow_the_protocol(denoised):
  weights, _, shares, _ = denoised
  test = {name: values[:2, :40, :48] for name, values in denoising.SPACE.data().test.items()}
  found = jax.jit(denoising.SPACE.network.measure)(weights, shares, test)
  results = np.asarray(jax.jit(denoising.SPACE.network.__call__)(weights, shares, np.float32(test["image"]) / 255))
  pairs = list(zip(np.clip(results, 0, 1), test["reference"], strict=True))
  assert float(found["psnr"]) == pytest.approx(np.mean([psnr(*pair) for pair in pairs]), abs=1e-3)
  assert float(found["ssim"]) == pytest.approx(np.mean([ssim(*pair) for pair in pairs]), abs=1e-4)


# The maker, on a space of two architectures.


class Line:
  """y = w x, or y = w |x|."""

  def init(self, key):
    return {"w": jax.random.normal(key, ())}

  def __call__(self, weights, shares, inputs):
    return weights["w"] * (shares[0, 0] * inputs + shares[0, 1] * jnp.abs(inputs))

  def loss(self, weights, shares, batch):
    return jnp.mean(jnp.square(self(weights, shares, batch["x"]) - batch["y"]))

  def measure(self, weights, shares, test):
    return {"fit": -self.loss(weights, shares, test)}


def line_data():
  x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
  return Data(*({"x": each, "y": 2 * np.abs(each)} for each in x))


LINE = Space(
  name="line",
  edges=("only",),
  operations=("identity", "absolute"),
  network=Line(),
  trained=Line(),
  objective="fit",
  about="Two lines.",
  licence="None.",
  data=line_data,
  recipe=Recipe(steps=40, batch_size=4, learning_rate=0.3),
  parameters=lambda _: 1,
  macs=lambda _: 1,
  unit="number",
)


def test_a_table_is_made_and_a_stopped_maker_resumed(tmp_path, monkeypatch):
  """After a kill in the middle of a line, what is missing is trained, with the same numbers as without the kill."""
  entries = entries_of(2, several=1)
  assert sorted(entries) == [(0, 0), (1, 0), (1, 1), (1, 2)] or sorted(entries) == [(0, 0), (0, 1), (0, 2), (1, 0)]
  whole = train_entries(LINE, entries, tmp_path / "whole.jsonl", chunk=1)
  lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
  assert len(lines) == len(entries)
  (tmp_path / "killed.jsonl").write_text("".join(lines[:2]) + lines[2][:30])
  trained = []
  monkeypatch.setattr(
    "benchmarks.tabular.making.make_training",
    lambda space, members: (
      lambda choices, seeds: trained.extend(seeds) or make_training(space, members)(choices, seeds)
    ),
  )
  assert train_entries(LINE, entries, tmp_path / "killed.jsonl", chunk=1) == whole
  assert len(trained) == 2
  assert train_entries(LINE, entries, tmp_path / "killed.jsonl", chunk=1) == whole
  assert len(trained) == 2  # nothing was missing
  other = dataclasses.replace(LINE, recipe=dataclasses.replace(LINE.recipe, steps=16))
  with pytest.raises(UserError, match=r"killed\.jsonl belongs to another recipe"):
    train_entries(other, entries, tmp_path / "killed.jsonl")
  table = nas.benchmark.Table(json_round_trip(content_of(LINE, whole)))
  assert table.query(("absolute",))["fit"] > table.query(("identity",))["fit"]
  assert "| fit |" in table.card and table.lengths == (5, 10, 20, 40)


def json_round_trip(content):
  return content._replace(about=json.loads(json.dumps(content.about)))


def test_an_entry_does_not_depend_on_its_chunk():
  choices, seeds = [(0,), (1,), (1,)], [0, 0, 1]
  together = make_training(LINE, 3)(choices, seeds)
  alone = make_training(LINE, 2)(choices[2:], seeds[2:])
  for name, values in together.items():
    np.testing.assert_array_equal(values[2:], alone[name])


@pytest.fixture
def lines(monkeypatch):
  """A table of the two lines, and their space."""
  whole = {
    Entry(index, seed): {"fit": [0, 0, 0, fit + seed / 100], "train_loss": [0] * 4, "validation_loss": [0] * 4}
    for index, fit in enumerate((-1.0, 0.0))
    for seed in range(3)
  }
  monkeypatch.setattr(nas.benchmark.Table, "space", LINE)
  return nas.benchmark.Table(content_of(LINE, whole))


def test_a_method_is_searched_rated_and_compared(lines):
  """`evaluate` looks up what the searches derive; the supernet ranks the two architectures as the table does."""
  (record,) = lines.evaluate(nas.SearchOptions(steps=60), seeds=[3])
  assert record["architecture"] == ("absolute",) and record["seed"] == 3
  assert record["regret"] == 0 and record["percentile"] == 75 and record["tau"] == pytest.approx(1)
  assert lines.search_problem().derive({"edges": np.array([[1.0, 0.0]])}) == {"only": "identity"}


@pytest.mark.parametrize("method, moves", [("darts", False), ("darts_pt", True)])
def test_the_weights_still_learn_while_darts_pt_selects(method, moves):
  options = nas.SearchOptions(steps=20, method=method)
  optimizer = arguments_of(digits.SPACE, options)["weight_optimizer"]
  weights = jnp.ones(3)
  state = optimizer.init(weights)
  for _ in range(21):
    update, state = optimizer.update(weights, state)
  assert np.any(update) == moves


def test_the_page_runs_as_it_is_printed(lines, capsys):
  """Its lookups in the table of the package; its searches with two lines, which take a second."""
  page = (pathlib.Path(__file__).parents[1] / "docs" / "search_benchmark.md").read_text()
  lookup, search, methods, correlation = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
  values = {}
  exec(lookup, values)
  assert "'psnr'" in capsys.readouterr().out
  exec(correlation, values)
  assert "ceiling" in capsys.readouterr().out
  values["table"] = lines
  exec(search + methods, values)
  assert "'regret'" in capsys.readouterr().out


def test_the_share_that_a_property_explains():
  architectures = [(a, b) for a in "xyz" for b in "xyz"]
  first, second = (np.array([ord(architecture[edge]) for architecture in architectures], float) for edge in (0, 1))
  share = lambda values, of: explained(architectures, values, of)["share"]
  assert share(first, lambda architecture: architecture[0]) == pytest.approx(1)
  assert share(first, lambda architecture: architecture[1]) == pytest.approx(0)
  assert share(first + 2 * second, lambda architecture: architecture[1]) == pytest.approx(4 / 5)
  assert explained(architectures, first, len)["rows"] == [{"value": "2", "architectures": 9, "mean": 121, "best": 122}]
