"""The costs of RUAS's networks: exact for a genotype, and differentiable in mixing weights."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_problem

from ruas_jax.config import load_config
from ruas_jax.errors import UserError
from ruas_jax.experiments.setting import search_setting
from ruas_jax.lowlight.cost import CellCost, NetworkCost, mac_cost, parameter_cost
from ruas_jax.lowlight.genotype import CELLS, Genotype
from ruas_jax.lowlight.latency import latency_record, read_latency
from ruas_jax.lowlight.network import build_network, count_folded_macs, count_macs
from ruas_jax.lowlight.operations import CANDIDATES, Operation, operation_names
from ruas_jax.lowlight.options import DenoisingOptions, IlluminationOptions, NetworkOptions
from ruas_jax.lowlight.search_options import RUASSearchOptions

NAMES = operation_names(CANDIDATES)
ROW = Operation(
  "row_mean",
  lambda channels: (channels,),
  lambda weight, channels: jnp.ones((1, 3, 1, 1)) * jnp.diag(weight)[None, None],
)


def genotypes(names, count=4, seed=0):
  rng = np.random.default_rng(seed)
  return [Genotype(*(tuple(rng.choice(names, 7).tolist()) for _ in CELLS)) for _ in range(count)]


def one_hot(genotype, names):
  chosen = {cell: [names.index(name) for name in getattr(genotype, cell)] for cell in CELLS}
  return {cell: jax.nn.one_hot(np.array(rows), len(names)) for cell, rows in chosen.items()}


@pytest.mark.parametrize("config, operations", [("tiny", CANDIDATES), ("lol_paper", (*CANDIDATES[:3], ROW))])
def test_one_hot_mixing_weights_have_the_cost_that_is_counted(config, operations):
  """Of networks with weights of each stage and shared ones, with and without a guided stem, and a custom operation."""
  network, names = load_config(config).network, operation_names(operations)
  parameters, macs = parameter_cost(network, operations), mac_cost(network, operations)
  for genotype in genotypes(names):
    derived, shares = build_network(network, genotype, operations), one_hot(genotype, names)
    assert parameters.of(genotype) == derived.parameters() == parameters.expected(shares)
    assert macs.of(genotype) == count_folded_macs(derived, "i+n", 1, 1) == macs.expected(shares)
    assert macs.relative(shares) == pytest.approx(macs.of(genotype) / macs.largest)


def test_folded_macs_by_hand():
  """A skip has no tap, a 1x1 convolution one, 3x3 convolutions nine, dilated or not; each cell has a fusion."""
  cell = ("skip", "conv_1x1", "conv_3x3", "residual_dilated_conv_3x3", "residual_conv_3x3", "skip", "skip")
  options = NetworkOptions(IlluminationOptions(stages=3), DenoisingOptions(stages=2, channels=6))
  network = build_network(options, Genotype(cell, ("skip",) * 7))
  illumination, denoising = 3 * 9 * (0 + 1 + 9 + 9 + 9 + 0 + 0 + 4), 2 * (36 * (0 + 4) + 2 * 9 * 3 * 6)
  assert count_folded_macs(network, "i", 5, 4) == 20 * illumination
  assert count_folded_macs(network, "i+n", 5, 4) == 20 * (illumination + denoising)
  assert count_folded_macs(network, "i+n", 5, 4) == count_macs(network, "i+n", 5, 4)


def with_pairs(seed=0, operations=3):
  """A cost with a part of pairs, as a table of latency has it."""
  rng = np.random.default_rng(seed)
  numbers = lambda *shape: rng.uniform(0.5, 1, shape)
  cells = {cell: CellCost(numbers(operations), numbers(operations, operations), numbers().item()) for cell in CELLS}
  return NetworkCost(cells, ("skip", "conv_1x1", "conv_3x3"))


def test_the_expected_cost_is_the_mean_over_genotypes():
  """Over all of them for one cell of which four edges are certain, each weighted by its probability."""
  cost, rng = with_pairs(), np.random.default_rng(1)
  free = (0, 1, 6)  # a pair, and the last edge
  with jax.enable_x64(True):
    shares = {cell: np.eye(3)[rng.integers(0, 3, 7)] for cell in CELLS}
    shares["denoising"][list(free)] = rng.dirichlet(np.ones(3), len(free))
    mean = 0.0
    for chosen in itertools.product(range(3), repeat=len(free)):
      drawn = shares | {"denoising": shares["denoising"].copy()}
      drawn["denoising"][list(free)] = np.eye(3)[list(chosen)]
      names = {cell: tuple(cost.names[index] for index in rows.argmax(axis=1)) for cell, rows in drawn.items()}
      mean += shares["denoising"][list(free), chosen].prod() * cost.of(Genotype(**names))
    assert float(cost.expected(shares)) == pytest.approx(mean, rel=1e-12)


def test_the_gradient_is_that_of_central_differences():
  cost, step = with_pairs(), 1e-6
  with jax.enable_x64(True):
    alpha = {cell: jax.random.normal(jax.random.key(index), (7, 3)) for index, cell in enumerate(CELLS)}
    relative = jax.jit(lambda alpha: cost.relative(jax.tree.map(jax.nn.softmax, alpha)))
    gradient = jax.grad(relative)(alpha)
    for cell, edge, operation in (("illumination", 0, 1), ("illumination", 6, 2), ("denoising", 3, 0)):
      moved = [alpha | {cell: alpha[cell].at[edge, operation].add(by)} for by in (step, -step)]
      slope = (relative(moved[0]) - relative(moved[1])) / (2 * step)
      assert float(gradient[cell][edge, operation]) == pytest.approx(float(slope), rel=1e-6)


def test_the_most_expensive_genotype_is_the_largest_of_all():
  """A cell's three pairs are alike, so 27 cells have all combinations of a pair and the last edge."""
  cost = with_pairs(seed=3)
  alike = [(one, other) * 3 + (last,) for one, other, last in itertools.product(cost.names, repeat=3)]
  assert cost.largest == pytest.approx(max(cost.of(Genotype(*cells)) for cells in itertools.product(alike, repeat=2)))
  whole = Genotype(("conv_3x3",) * 7, ("conv_3x3",) * 7)
  assert mac_cost(NetworkOptions()).largest == mac_cost(NetworkOptions()).of(whole)


@pytest.fixture
def table(tmp_path):
  network = tiny_problem.get_config().network
  macs = mac_cost(network)
  cells = {name: CellCost(cell.edge * 1e-6, cell.pair + 1e-6 * np.eye(7), 0.01) for name, cell in macs.cells.items()}
  path = tmp_path / "table.json"
  path.write_text(json.dumps(latency_record(NetworkCost(cells, NAMES), network, {"device": "a test"})))
  return path, network, NetworkCost(cells, NAMES)


def test_a_table_of_latency_is_read_as_it_was_written(table):
  path, network, cost = table
  read = read_latency(path, network)
  for genotype in genotypes(NAMES):
    assert read.of(genotype) == cost.of(genotype)
  problem = search_setting(tiny_problem.get_config().with_overrides({"search.latency_table": str(path)})).problem
  assert set(problem.costs) == {"parameters", "macs", "latency"}
  shares = one_hot(genotypes(NAMES)[0], NAMES)
  assert float(problem.costs["latency"](shares)) == pytest.approx(cost.of(genotypes(NAMES)[0]) / cost.largest, rel=1e-6)


def test_a_table_that_does_not_fit_is_one_line(table, tmp_path):
  path, network, _ = table
  other = NetworkOptions(network.illumination, DenoisingOptions(stages=1, channels=7))
  for arguments, said in (
    ((tmp_path / "none.json", network), "not a readable table of latency"),
    ((path, other), "belongs to another network: `network.denoising.channels` is 6 there and 7 here"),
    ((path, network, CANDIDATES[:3]), "belongs to the operations skip, conv_1x1"),
  ):
    with pytest.raises(UserError, match=f"^`search.latency_table` .*{said}.*; `ruas latency` makes one$"):
      read_latency(*arguments)
  path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))
  with pytest.raises(UserError, match="another version of ruas_jax"):
    read_latency(path, network)
  path.write_text(path.read_text()[:100])
  with pytest.raises(UserError, match="not a readable table of latency"):
    read_latency(path, network)


def test_wrong_costs_are_one_line():
  for options, said in (
    ({"cost": "mac"}, r"`search.cost` 'mac' is unknown; perhaps you meant macs \(known: parameters, macs, latency\)"),
    ({"cost": "latency"}, "`search.cost` latency needs `search.latency_table`: make one with `ruas latency"),
  ):
    with pytest.raises(UserError, match=f"^{said}"):
      RUASSearchOptions(**options)
