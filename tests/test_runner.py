"""A search from files to a genotype and a training from there to a checkpoint, once, by the command line."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_problem
from PIL import Image
from tiny_problem import dark_images, get_config, logged, ruas, truncate, write_images

from ruas_jax.config import load_config, read_config
from ruas_jax.data.sources import ImageArrays, ImageFolder
from ruas_jax.engine.loop import Outcome
from ruas_jax.engine.metric_log import read_metrics
from ruas_jax.engine.run_options import RunOptions
from ruas_jax.engine.stream import Order
from ruas_jax.errors import UserError
from ruas_jax.experiments.search import search
from ruas_jax.experiments.train import train
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.operations import CANDIDATES, SKIP, Operation, operation_names
from ruas_jax.photos.model import enhance, load, save_model

pytestmark = pytest.mark.usefixtures("kept_programs")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  return write_images(tmp_path_factory.mktemp("images"), dark_images(6))


@pytest.fixture(scope="module")
def searched(images, tmp_path_factory, kept_programs):
  """The work directory of the one search that the tests here look at."""
  workdir = tmp_path_factory.mktemp("runs") / "search"
  assert ruas("search", "--config", tiny_problem.CONFIG, "--data.train", images, "--workdir", workdir) == 0
  return workdir


@pytest.fixture(scope="module")
def trained(images, searched, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("runs") / "train"
  arguments = ("--genotype", searched / "genotype.json", "--data.train", images, "--workdir", workdir)
  assert ruas("train", "--config", tiny_problem.CONFIG, "--network.variant", "i", *arguments) == 0
  return workdir


def experiment(images, **changes):
  return get_config().with_overrides({"data.train": str(images)} | changes)


def contents(workdir):
  return {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}


def alpha_of(workdir):
  with np.load(workdir / "alpha.npz") as arrays:
    return {name: arrays[name] for name in arrays.files}


def test_search_writes_everything(searched, images):
  names = [
    "alpha.npz",
    "alpha.png",
    "config.json",
    "genotype.json",
    "genotype.png",
    "losses.png",
    "metrics.jsonl",
    "snapshots",
    "state",
  ]
  assert sorted(path.name for path in searched.iterdir()) == names
  assert read_config(searched / "config.json") == experiment(images)
  for name in ("alpha.png", "genotype.png", "losses.png"):
    with Image.open(searched / name) as picture:
      picture.load()
      assert picture.format == "PNG" and len(picture.convert("L").getcolors(256)) > 10
  records = read_metrics(searched / "metrics.jsonl")
  assert [record["step"] for record in records] == [1, 2, 3]
  for player in ("illumination", "denoising"):
    for record in records:
      assert record[f"{player}_train_loss"] > 0 and record[f"{player}_validation_loss"] > 0


def test_the_genotype_is_the_largest_alpha_and_alpha_has_moved(searched):
  alpha = alpha_of(searched)
  assert tuple(alpha["operations"]) == operation_names(CANDIDATES)
  for cell in ("illumination", "denoising"):
    assert alpha[cell].shape == (7, 7)
    assert (np.ptp(alpha[cell], axis=1) > 0).all()  # every edge has left the uniform mixture
  genotype = Genotype.load(searched / "genotype.json")
  assert genotype == Genotype.derive(alpha["illumination"], alpha["denoising"], operation_names(CANDIDATES))


def test_the_same_seed_finds_the_same_bits_and_another_seed_others(searched, images):
  before = alpha_of(searched)
  again, other = (search(experiment(images, seed=seed)) for seed in (0, 1))
  for cell in ("illumination", "denoising"):
    np.testing.assert_array_equal(again.state.alpha[cell], before[cell])
    assert not np.array_equal(other.state.alpha[cell], before[cell])
  assert again.genotype == Genotype.load(searched / "genotype.json")
  assert again.metrics == logged(searched)


def test_train_writes_a_checkpoint_with_genotype_variant_and_configuration(searched, trained, images):
  assert sorted(path.name for path in trained.iterdir()) == [
    *("checkpoint", "config.json", "losses.png", "metrics.jsonl", "snapshots"),
  ]
  model, config = load(trained), read_config(trained / "config.json")
  assert model.genotype == Genotype.load(searched / "genotype.json")
  assert model.options == config.network == dataclasses.replace(get_config().network, variant="i")
  about = json.loads((trained / "checkpoint" / "about.json").read_text())
  assert about["config"] == json.loads((trained / "config.json").read_text())
  assert (about["variant"], about["genotype"]) == ("i", json.loads(model.genotype.to_json()))
  assert [record["step"] for record in read_metrics(trained / "metrics.jsonl")] == [1, 2, 3]
  start = jax.jit(model.network.init_weights)(jax.random.split(jax.random.key(0))[0])
  for module in ("illumination", "denoising"):
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), model.weights[module], start[module])
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_a_trained_checkpoint_enhances_files(trained, images, tmp_path, capsys):
  assert ruas("enhance", images / "0.png", "--checkpoint", trained, "--out", tmp_path) == 0
  assert "1 enhanced" in capsys.readouterr().out
  before, after = (np.asarray(Image.open(folder / "0.png")) for folder in (images, tmp_path))
  expected = np.asarray(jax.jit(enhance)(load(trained), jnp.asarray(before, jnp.float32) / 255)) * 255
  assert after.shape == before.shape and np.abs(after - expected).max() <= 0.501


def test_a_finished_run_is_found_finished_and_another_one_is_refused(searched, trained, images):
  for workdir, run, config in (
    (searched, search, experiment(images)),
    (trained, train, experiment(images, **{"network.variant": "i"})),
  ):
    arguments = (Genotype.load(searched / "genotype.json"),) if run is train else ()
    before = contents(workdir)
    assert len(run(config, *arguments, workdir=workdir).metrics) == 3
    for name in ("genotype.json", "alpha.npz", "alpha.png", "metrics.jsonl", "config.json", "losses.png"):
      assert run is train or (workdir / name).read_bytes() == before[workdir / name]
    before = contents(workdir)
    for change, said in (
      ({"seed": 1}, "seed was 0 and is 1"),
      ({"loss.eta_t": 0.5}, "loss.eta_t was .* and is 0.5"),
    ):
      with pytest.raises(UserError, match=rf"belongs to another configuration \({said}.*choose another `workdir`"):
        run(config.with_overrides(change), *arguments, workdir=workdir)
    with pytest.raises(UserError, match="is not empty, but `fresh` needs an empty folder; set `overwrite`"):
      run(config, *arguments, workdir=workdir, run=RunOptions(fresh=True))
    assert contents(workdir) == before


@pytest.mark.parametrize("run, result", [(search, "genotype.json"), (train, "checkpoint")])
def test_a_result_without_a_log_is_not_overwritten_either(run, result, images, tmp_path):
  """A checkpoint that was imported, a genotype that somebody wrote."""
  if run is train:
    save_model(tmp_path, tiny_problem.fresh_model())
  else:
    Genotype.named("published").save(tmp_path / result)
  with pytest.raises(UserError, match="set `overwrite` to start anew"):
    run(experiment(images), workdir=tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == [result]


def steps(value):
  """An optimiser that adds `value` to every number."""
  return optax.GradientTransformation(
    lambda params: (), lambda updates, state, params=None: (jax.tree.map(lambda leaf: leaf * 0 + value, updates), state)
  )


def row_mean(weight, channels):
  return jnp.ones((1, 3, 1, 1)) / 3 * jnp.diag(weight)[None, None]


OPERATIONS = (Operation("row_mean", lambda channels: (channels,), row_mean), SKIP)


def search_with_own_parts(images, **arguments):
  """The illumination's loss is 7, and NaN on bright images, the denoising's 3; alpha goes up by 1/4, weights by 1/8."""
  return search(
    get_config(),
    train_images=ImageArrays([str(position) for position in range(len(images))], images),
    val_images=ImageArrays(["held out"], dark_images(1)),
    operations=OPERATIONS,
    illumination_loss=lambda output, images: jnp.where(images.mean() > 0.5, jnp.nan, 7.0),
    denoising_loss=lambda x, u: jnp.float32(3),
    weight_optimizer=steps(0.125),
    alpha_optimizer=steps(0.25),
    **arguments,
  )


def test_own_losses_operations_and_optimizers_are_used():
  result = search_with_own_parts(dark_images(3))
  for record in result.metrics:
    assert (record["illumination_train_loss"], record["denoising_train_loss"]) == (7, 3)
    assert (record["illumination_validation_loss"], record["denoising_validation_loss"]) == (10, 3)
  network = build_network(get_config().network, operations=OPERATIONS)
  start = jax.jit(network.init_weights)(jax.random.split(jax.random.key(0))[0])
  for cell in ("illumination", "denoising"):
    np.testing.assert_array_equal(result.state.alpha[cell], np.full((7, 2), 0.75, np.float32))
    ends, begins = jax.tree.leaves(result.state.weights[cell]), jax.tree.leaves(start[cell])
    for end, begin in zip(ends, begins, strict=True):
      np.testing.assert_allclose(end, begin + 0.375, atol=1e-6)
  assert "row_mean" in result.state.weights["illumination"]["edges"]
  assert result.genotype == Genotype(("row_mean",) * 7, ("row_mean",) * 7)  # the first of equals


def test_a_loss_that_is_not_finite_stops_the_search_and_leaves_no_genotype(tmp_path):
  workdir, images = tmp_path / "run", dark_images(3)
  images[Order(3, seed=0)[1]][:] = 255  # the second to be visited
  said = r"^search: the illumination train loss is not finite at step 2; the last good .*run/snapshots/000000$"
  with pytest.raises(UserError, match=said):
    search_with_own_parts(images, workdir=workdir)
  assert [record["illumination_train_loss"] for record in read_metrics(workdir / "metrics.jsonl")] == [7, None]
  assert sorted(path.name for path in workdir.iterdir()) == ["config.json", "metrics.jsonl", "snapshots"]
  Genotype.named("published").save(workdir / "genotype.json")  # as an earlier run would have
  with pytest.raises(UserError, match=r"at step 2; "):
    search_with_own_parts(images, workdir=workdir, run=RunOptions(overwrite=True))
  assert sorted(path.name for path in workdir.iterdir()) == ["config.json", "metrics.jsonl", "snapshots"]


@pytest.fixture
def batches_of(monkeypatch):
  """`search` with a loop that takes no step, only the batches: the shades of the images in each stream, by round."""

  def collect(config, rounds=24):
    shades = []

    def iterate(loop, **_):
      feed = loop._feed
      for _ in range(rounds):
        element = jax.tree.map(lambda leaf: leaf[0], feed.read(1))
        shades.append([int(batch["image"][0, 0, 0, 0, 0]) for batch in feed.fetch(feed.data, element)])
      return Outcome(jax.device_get(loop.run.state), [[]], [None])

    monkeypatch.setattr("ruas_jax.nas.one_search.iterate", iterate)
    search(config)
    return [[row[column] for row in shades] for column in (0, 1)]

  return collect


def shaded(folder, shades):
  return write_images(folder, [np.full((9, 9, 3), shade, np.uint8) for shade in shades])


def test_without_validation_data_the_images_are_halved_by_the_seed(batches_of, tmp_path):
  shades = list(range(0, 80, 10))
  folder = shaded(tmp_path / "images", shades)
  halves = {}
  for seed in (0, 1, 2):
    train_shades, val_shades = batches_of(experiment(folder, seed=seed))
    assert sorted(set(train_shades) | set(val_shades)) == shades and not set(train_shades) & set(val_shades)
    assert len(set(train_shades)) == len(set(val_shades)) == 4
    assert train_shades[:4] != train_shades[4:8]  # a new order in every epoch
    halves[seed] = (train_shades, val_shades)
  assert list(batches_of(experiment(folder, seed=0))) == list(halves[0])
  assert len({frozenset(train_shades) for train_shades, _ in halves.values()}) > 1


def test_validation_data_of_its_own_leaves_the_training_data_whole(batches_of, tmp_path):
  other = shaded(tmp_path / "val", [50, 60])
  config = experiment(shaded(tmp_path / "train", [10, 20, 30]), **{"data.val": str(other)})
  train_shades, val_shades = batches_of(config)
  assert (set(train_shades), set(val_shades)) == ({10, 20, 30}, {50, 60})


def test_a_truncated_image_stops_the_run_with_its_name(images, tmp_path, capsys):
  bad = tmp_path / "bad"
  shutil.copytree(images, bad)
  for path in bad.iterdir():
    truncate(path)
  assert ImageFolder(bad).sizes() == ImageFolder(images).sizes()  # the headers are sound
  common = ("--config", tiny_problem.CONFIG, "--data.train", bad, "--workdir", tmp_path / "run")
  assert ruas("search", *common) == 1
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 6 and all("truncated" in line and str(bad) in line for line in lines)  # each of them, at once
  assert not (tmp_path / "run" / "genotype.json").exists()


def test_the_recorded_configurations_fit_the_runner():
  """Their networks can be built; running them takes longer than a test may."""
  for name in ("lol", "general", "lol_paper", "fivek_paper", "tiny"):
    config = load_config(name)
    shapes = jax.eval_shape(build_network(config.network).init_weights, jax.random.key(0))
    assert set(shapes) == {"illumination", "denoising"}
