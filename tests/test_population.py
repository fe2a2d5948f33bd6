"""A population from the command line to its folders, what its options may say, and what is made of its genotypes."""

import itertools
import json

import jax
import numpy as np
import pytest
import tiny_problem
from PIL import Image
from tiny_problem import dark_images, get_config, ruas, write_images

from ruas_jax.commands import experiment
from ruas_jax.config import Config, read_config
from ruas_jax.data.sources import ImageArrays
from ruas_jax.engine.metric_log import read_metrics
from ruas_jax.errors import UserError
from ruas_jax.experiments.agreement import Found, summarize_agreement
from ruas_jax.experiments.population import search_population
from ruas_jax.experiments.setting import load_search
from ruas_jax.lowlight.cost import parameter_cost
from ruas_jax.lowlight.genotype import CELLS, EDGES, Genotype
from ruas_jax.lowlight.numbers import with_numbers
from ruas_jax.optimizers import OptimizerOptions, make_optimizer
from ruas_jax.plots import plot_population
from ruas_jax.sweep import PopulationOptions, list_members

pytestmark = pytest.mark.usefixtures("kept_programs")

COSTLY = ("--search.cost", "parameters", "--search.cost-weight", 0.1)
RATE = "search.weight_optimizer.learning_rate"
FINISHED = [
  *("alpha.npz", "alpha.png", "config.json", "genotype.json", "genotype.png", "losses.png", "metrics.jsonl", "state"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory, kept_programs):
  """The work directory and the output of a population of four, of which two fail; an earlier one of six lay there."""
  place = tmp_path_factory.mktemp("population")
  images, workdir = write_images(place / "images", dark_images(6)), place / "run"
  for position in range(6):
    (workdir / f"member_{position:03}").mkdir(parents=True)
    (workdir / f"member_{position:03}" / "config.json").write_text("{}")
    Genotype.named("published").save(workdir / f"member_{position:03}" / "genotype.json")
  (workdir / "member_005" / "notes.txt").write_text("somebody's own")
  command = ("search", "--config", tiny_problem.CONFIG, "--data.train", images, "--workdir", workdir)
  options = ("--population.seeds", 2, f"--population.sweep.{RATE.replace('_', '-')}", "0.005,1e18", *COSTLY)
  assert ruas(*command, *options) == 1  # there is a run
  with pytest.MonkeyPatch.context() as patch:
    lines = []
    patch.setattr("builtins.print", lambda *text, file=None, **_: lines.append((file is not None, *text)))
    assert ruas(*command, *options, "--overwrite") == 0
  return workdir, lines, images


def test_each_member_has_the_work_directory_of_a_search(run):
  workdir, lines, images = run
  names = [f"member_{position:03}" for position in range(4)]
  assert sorted(path.name for path in workdir.iterdir()) == [
    *("config.json", "front.json", "front.png", *names, "member_005", "population.json", "population.png", "snapshots"),
  ]  # fmt: skip
  assert [path.name for path in (workdir / "member_005").iterdir()] == ["notes.txt"]
  base = get_config().with_overrides(
    {"data.train": str(images), "search.cost": "parameters", "search.cost_weight": 0.1}
  )
  members = list_members(base, PopulationOptions(seeds=2, sweep=(f"{RATE}=0.005,1e18",)))
  for position, (name, (config, _)) in enumerate(zip(names, members, strict=True)):
    assert read_config(workdir / name / "config.json") == config
    records = read_metrics(workdir / name / "metrics.jsonl")
    files = sorted(path.name for path in (workdir / name).iterdir())
    if position < 2:
      assert files == FINISHED and [record["step"] for record in records] == [1, 2, 3]
      found, state = load_search(workdir / name)
      assert found == config and int(state.step) == 3
      with np.load(workdir / name / "alpha.npz") as alpha:
        for cell in CELLS:
          np.testing.assert_array_equal(alpha[cell], state.alpha[cell])
      assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.weights))
    else:
      assert files == ["config.json", "metrics.jsonl"]
      assert None in records[-1].values()
      assert any(error and f"ruas: {name}: the " in text and "not finite" in text for error, text in lines)


def test_the_summary_names_every_member(run):
  workdir, lines, _ = run
  summary = json.loads((workdir / "population.json").read_text())
  assert [(m["name"], m["seed"], m["values"]) for m in summary["members"]] == [
    (f"member_{position:03}", position % 2, {RATE: (0.005, 1e18)[position // 2]}) for position in range(4)
  ]
  for member in summary["members"][:2]:
    assert member["failure"] is None and member["steps"] == 3
    assert Genotype.from_text(member["genotype"]) == Genotype.load(workdir / member["name"] / "genotype.json")
    last = read_metrics(workdir / member["name"] / "metrics.jsonl")[-1]
    assert member["losses"]["denoising_validation"] == last["denoising_validation_loss"]
  for member in summary["members"][2:]:
    assert "not finite" in member["failure"] and member["genotype"] is None
  assert sorted(name for row in summary["genotypes"] for name in row["members"]) == ["member_000", "member_001"]
  with Image.open(workdir / "population.png") as picture:
    assert picture.format == "PNG" and len(picture.convert("L").getcolors(256)) > 10
  assert any("4 searches found" in line[1] for line in lines)


def test_the_front_has_the_members_that_finished(run):
  """With the cost of their genotypes, and a loss without the cost."""
  workdir, lines, _ = run
  assert "front.png, front.json, member_000" in lines[-1][1]
  front = json.loads((workdir / "front.json").read_text())
  cost = parameter_cost(get_config().network)
  assert sorted(point["name"] for point in front["points"]) == ["member_000", "member_001"]
  for point in front["points"]:
    genotype = Genotype.load(workdir / point["name"] / "genotype.json")
    last = read_metrics(workdir / point["name"] / "metrics.jsonl")[-1]
    assert point["genotype"] == str(genotype) and point["values"] == {RATE: 0.005}
    assert point["cost"] == cost.of(genotype) == point["relative_cost"] * front["largest"]
    assert point["expected_cost"] / front["largest"] == pytest.approx(last["denoising_cost_parameters"], rel=1e-2)
    assert point["loss"] == pytest.approx(last["illumination_validation_loss"], rel=0.2)  # of other crops
  with Image.open(workdir / "front.png") as picture:
    assert picture.format == "PNG" and len(picture.convert("L").getcolors(256)) > 10


def test_when_every_member_fails_the_command_fails(run, tmp_path, capfd):
  command = ("search", "--config", tiny_problem.CONFIG, "--data.train", run[2], "--workdir", tmp_path / "run")
  assert ruas(*command, "--population.seeds", 2, "--population.sweep", f"{RATE}=1e18,1e19") == 1
  lines = capfd.readouterr().err.splitlines()
  assert lines[0] == "ruas: search: every member failed" and len(lines) == 5
  assert all(line.startswith(f"ruas: member_00{i}: the ") for i, line in enumerate(lines[1:]))
  assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
    "config.json", *(f"member_{i:03}" for i in range(4)), "population.json", "snapshots",
  ]  # fmt: skip


@pytest.mark.parametrize(
  "sweep, said",
  [
    ("search.eta_t=0.1", "^`population.sweep`: there is no option 'search.eta_t'; .* loss.eta_t$"),
    ("learning_rate=0.1", "perhaps you meant search.weight_optimizer.learning_rate or search.alpha_opt"),
    ("voltage=0.1", "there is no option 'voltage'$"),
    ("loss.exposure=0.3", "there is no option 'loss.exposure'; perhaps you meant loss.exposure.target or loss.exp"),
    ("loss.exposure_weight=1", "there is no option 'loss.exposure_weight'; perhaps you meant loss.exposure.weight$"),
    ("loss.pairs.per_noise=1", "loss.pairs.per_noise cannot be swept: each of its values needs a separate comp"),
    ("loss=0.1", "there is no option 'loss'"),
    ("search.steps=3", "search.steps cannot be swept: each of its values needs a separate compilation"),
    ("training.illumination_optimizer.momentum=0.1", "a search does not depend on it; perhaps you meant search.w"),
    ("search.diagnostics.threshold=0.1", "search.diagnostics.threshold cannot be swept"),
    ("loss.eta_t", "loss.eta_t must be numbers separated by commas, not ''"),
    ("loss.eta_t=a,b", "loss.eta_t must be numbers separated by commas, not 'a,b'"),
    ("loss.eta_t=1,1.0", "holds a value twice"),
  ],
)
def test_a_wrong_sweep_is_one_line(sweep, said):
  with pytest.raises(UserError, match=said) as error:
    PopulationOptions(sweep=(sweep,))
  assert "\n" not in str(error.value)


def test_wrong_populations_are_refused():
  with pytest.raises(UserError, match="given twice"):
    PopulationOptions(sweep=("loss.eta_t=0.1", "loss.eta-t=0.2"))
  with pytest.raises(UserError, match=r"`population.seeds` must be at least 1"):
    PopulationOptions(seeds=0)
  with pytest.raises(UserError, match=r"`loss.eta_t` must be at least 0 and finite, not -1"):
    list_members(Config(), PopulationOptions(sweep=("loss.eta_t=0.1,-1",)))


@pytest.mark.parametrize(
  "path", ["network.smoothing", "loss.rtv_sigma", "loss.charbonnier", "network.illumination.exponent"]
)
def test_a_value_that_decides_about_the_program_is_refused_before_the_work(path, tmp_path):
  images = ImageArrays(["a", "b"], dark_images(2))
  with pytest.raises(UserError, match=rf"^`sweep` {path}: cannot be swept, "):
    sweep = ("loss.eta_t=0.1", f"{path}=0.5,0.7")
    search_population(get_config(), PopulationOptions(sweep=sweep), train_images=images, workdir=tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_members_are_every_setting_with_every_seed():
  population = PopulationOptions(seeds=3, sweep=("loss.eta_t=0.1,0.3", "search.weight_optimizer.momentum=0,0.5"))
  members = list_members(get_config().with_overrides({"seed": 5}), population)
  settings = itertools.product((0.1, 0.3), (0.0, 0.5), (5, 6, 7))
  found = [(m.config.loss.eta_t, m.config.search.weight_optimizer.momentum, m.config.seed) for m in members]
  assert found == list(settings) == [(*m.values.values(), m.config.seed) for m in members]
  assert PopulationOptions().is_one and not PopulationOptions(sweep=("loss.eta_t=1",)).is_one


@pytest.mark.parametrize(
  "arguments, listed",
  [
    ("--seed 1", "--seed 1"),
    ("--population.sweep.loss.eta_t 0.1,0.3 --seed 1", "--seed 1 --population.sweep loss.eta_t=0.1,0.3"),
    ("--population.sweep.a=1 --x --population.sweep.b -2", "--x --population.sweep a=1 b=-2"),
    ("--population.sweep c=3 --population.sweep.a 1 --x", "--population.sweep a=1 c=3 --x"),
    ("--population.sweep.a", "--population.sweep a="),
  ],
)
def test_a_sweep_on_the_command_line(arguments, listed):
  assert experiment._listed_sweep(arguments.split()) == listed.split()


def test_a_wrong_sweep_on_the_command_line_is_one_line(tmp_path, capfd):
  common = ("search", "--config", tiny_problem.CONFIG, "--workdir", tmp_path / "run")
  for option, said in (("search.eta_t", "perhaps you meant loss.eta_t"), ("loss.eta_t", "must be numbers")):
    assert ruas(*common, f"--population.sweep.{option}", "0.1,x") == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0] and "population.sweep" in lines[0]


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_traced_zero_is_a_zero_of_an_optimizer(name):
  """Weight decay and momentum of zero, which a population has as inputs of its program."""
  weights, gradient = np.float32([1, 2]), np.float32([0.5, -3])

  def moved(momentum, weight_decay):
    optimizer = make_optimizer(OptimizerOptions(name, 0.1, momentum=momentum, weight_decay=weight_decay))
    _, state = optimizer.update(gradient, optimizer.init(weights), weights)
    return optimizer.update(gradient, state, weights)

  def traced(momentum, weight_decay):
    values = {"optimizer.momentum": momentum, "optimizer.weight_decay": weight_decay}
    options = with_numbers(OptimizerOptions(name, 0.1), values, "optimizer")
    optimizer = make_optimizer(options)
    _, state = optimizer.update(gradient, optimizer.init(weights), weights)
    return optimizer.update(gradient, state, weights)

  for values in ((0.0, 0.0), (0.5, 0.0), (0.5, 0.1)):
    one, other = jax.tree.leaves(moved(*values)), jax.tree.leaves(jax.jit(traced)(*values))
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-6)


def found_of(*rows):
  """`(seed, setting, operations of the illumination)`; the denoising is all skip."""
  return [
    Found(f"member_{i:03}", seed, {"loss.eta_t": setting}, Genotype(cell, ("skip",) * 7))
    for i, (seed, setting, cell) in enumerate(rows)
  ]


def test_agreement_counts_edges_pairs_and_genotypes():
  a, b = ("conv_1x1",) * 7, ("conv_1x1",) * 3 + ("conv_3x3",) * 4
  summary = summarize_agreement(found_of((0, 0.1, a), (1, 0.1, b), (0, 0.3, b)))
  edges = summary["edges"]["illumination"]
  assert list(edges) == list(EDGES)
  assert edges["distill_1"] == {"operation": "conv_1x1", "share": 1}
  assert edges["distill_4"] == {"operation": "conv_3x3", "share": pytest.approx(2 / 3)}
  assert summary["edges"]["denoising"]["remain_1"] == {"operation": "skip", "share": 1}
  assert summary["pairs"] == pytest.approx(
    {"within_setting": 10 / 14, "across_settings": (10 / 14 + 1) / 2, "across_settings_same_seed": 10 / 14}
  )
  assert [(row["count"], row["members"]) for row in summary["genotypes"]] == [
    (2, ["member_001", "member_002"]), (1, ["member_000"]),
  ]  # fmt: skip
  assert Genotype.from_text(summary["genotypes"][0]["genotype"]).illumination == b
  assert set(summarize_agreement(found_of((0, 0.1, a)))["pairs"].values()) == {None}


def test_the_picture_shows_every_operation_where_it_was_chosen(tmp_path, monkeypatch):
  figures = []
  monkeypatch.setattr("ruas_jax.plots.population.save_figure", lambda figure, path: figures.append(figure))
  a, b = ("conv_1x1",) * 7, ("conv_3x3", "own") + ("residual_conv_3x3",) * 5
  found = found_of((0, 0.1, a), (1, 0.1, b), (0, 0.3, b))
  members = [{"name": one.name, "seed": one.seed, "values": one.values, "genotype": str(one.genotype)} for one in found]
  members.append({"name": "member_003", "seed": 1, "values": {"loss.eta_t": 0.3}, "genotype": None})
  plot_population(tmp_path / "population.png", {"members": members, **summarize_agreement(found)})
  bars, grid = figures[0].axes[:2]
  texts = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in grid.texts}
  assert [texts[row, 0] for row in range(3)] == ["1-C", "3-C", "3-C"]
  assert texts[1, 1] == "own" and texts[3, 3] == "failed"
  assert [round(bar.get_height(), 2) for bar in bars.patches] == [0.67] * 7
  assert bars.patches[0].get_facecolor() == grid.patches[7].get_facecolor()
  assert bars.patches[0].get_facecolor() != grid.patches[0].get_facecolor()
  assert [label.get_text() for label in grid.get_yticklabels()][2] == "eta_t 0.3, seed 0"
