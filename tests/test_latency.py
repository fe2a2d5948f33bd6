"""The table of latency: what is timed, and that its sums are the times again."""

import json

import numpy as np
import pytest
import tiny_problem
from tiny_problem import ruas

from ruas_jax.experiments import latency
from ruas_jax.lowlight.genotype import CELLS, Genotype
from ruas_jax.lowlight.latency import read_latency
from ruas_jax.lowlight.operations import CANDIDATES, operation_names

NETWORK = tiny_problem.get_config().network
SKIP, ONE, THREE, DILATED = "skip", "conv_1x1", "conv_3x3", "dilated_conv_3x3"


@pytest.fixture
def seconds(monkeypatch):
  """Stand-ins for the timed networks: random times by module and operations."""
  found, rng = {}, np.random.default_rng(0)

  def times(programs, repeats):
    assert repeats == 5
    return {key: found.setdefault(key, rng.uniform(1, 2)) for key in programs}

  monkeypatch.setattr(latency, "_forward", lambda *arguments: None)
  monkeypatch.setattr(latency, "fastest_seconds", times)
  return found


def test_the_table_gives_the_times_of_the_networks_that_were_timed(seconds, tmp_path):
  path = tmp_path / "table.json"
  path.write_text(json.dumps(latency.measure_latency(NETWORK, repeats=5)))
  cost = read_latency(path, NETWORK)
  # Four kinds of taps, since skip has none: sixteen pairs of them and three other last edges, of each module.
  assert [cell for cell, _ in seconds] == ["illumination"] * 19 + ["denoising"] * 19
  skips = {cell: (SKIP,) * 7 for cell in CELLS}
  for (cell, edges), value in seconds.items():
    other = next(name for name in CELLS if name != cell)
    assert cost.of(Genotype(**(skips | {cell: edges}))) == pytest.approx(value + seconds[other, skips[other]])
  # An operation has the cost of its taps, and pairs add up.
  alike = {ONE: "residual_conv_1x1", THREE: "residual_conv_3x3", DILATED: "residual_dilated_conv_3x3"}
  mixed = (ONE, THREE, DILATED, DILATED, THREE, ONE, THREE)
  again = tuple(alike[name] for name in mixed)
  assert cost.of(Genotype(mixed, mixed)) == pytest.approx(cost.of(Genotype(again, again)))
  parts = [
    seconds["denoising", (one, other) * 3 + (SKIP,)] for one, other in ((ONE, THREE), (DILATED,) * 2, (THREE, ONE))
  ]
  base = seconds["denoising", (SKIP,) * 7]
  last = seconds["denoising", (SKIP,) * 6 + (THREE,)] - base
  expected = base + sum(part - base for part in parts) / 3 + last + seconds["illumination", skips["illumination"]]
  assert cost.of(Genotype(skips["illumination"], mixed)) == pytest.approx(expected)


def test_real_networks_are_timed():
  """Two operations with the same taps are one network of each module."""
  few = (CANDIDATES[1], CANDIDATES[4])  # a 1x1 convolution without and with a residual
  table = latency.measure_latency(NETWORK, height=8, width=10, repeats=1, operations=few)
  assert table["size"] == [8, 10] and table["operations"] == operation_names(few)
  for cell in CELLS:
    of_cell = table["seconds"][cell]
    assert of_cell["fixed"] > 0 and of_cell["edge"] == [0, 0] and np.ravel(of_cell["pair"]).tolist() == [0] * 4


def test_a_wrong_size_is_one_line(capsys, tmp_path):
  assert ruas("latency", "--json", tmp_path / "table.json", "--height", 0) == 1
  assert capsys.readouterr().err == "ruas: --height, --width and --repeats must be at least 1\n"
