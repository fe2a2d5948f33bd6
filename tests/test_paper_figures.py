"""The paper's figures and the ablation run on a tiny data set, report what they must, and leave a picture."""

import dataclasses
import json
from typing import get_args, get_type_hints

import jax
import numpy as np
import pytest
from lol_folder import write_lol
from PIL import Image

from benchmarks.paper import (
  ablation,
  contact_sheet,
  convergence,
  exposures,
  fig3_night,
  fig4_panel,
  fig6_warm_starts,
  fig7_noise,
  fig8_architectures,
  fig9_strategies,
)
from benchmarks.paper.pictures import BOX_COLORS, Box, Picture, Row, choose_boxes, figures_text, save_grid
from benchmarks.speed.inference import random_model
from ruas_jax.config import load_config
from ruas_jax.data.sources import ImageFolder
from ruas_jax.errors import UserError
from ruas_jax.evaluation.metrics import psnr, ssim
from ruas_jax.evaluation.no_reference import flat_noise
from ruas_jax.experiments.train import train
from ruas_jax.lowlight.genotype import EDGES, Genotype
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.operations import CANDIDATES
from ruas_jax.lowlight.search_options import RUASSearchOptions
from ruas_jax.photos.model import FoldedModel, Model, enhance, enhance_folded
from ruas_jax.photos.pretrained import load_pretrained

QUICK = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return write_lol(tmp_path_factory.mktemp("lol"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
  """A configuration file that compiles fast: the paper's losses without the relative total variation, few stages."""
  fast = {"search.hypergradient": "first_order", "network.denoising.stages": 1}
  fast["network.illumination.stages"] = 2  # an updated warm start needs two
  config = load_config("lol_paper_losses").with_overrides({"loss.eta_t": 0.0, "training.decay": True} | fast)
  path = tmp_path_factory.mktemp("configuration") / "config.json"
  path.write_text(json.dumps(dataclasses.asdict(config)))
  return path


@pytest.fixture
def measure(tmp_path):
  """Runs a command's quick version, and returns its report after a look at its picture."""

  def run(command, *arguments, suffix="png"):
    report, picture = tmp_path / "report.json", tmp_path / f"picture.{suffix}"
    command.main(["--quick", *map(str, arguments), "--json", str(report), "--picture", str(picture)])
    colours(picture)
    return json.loads(report.read_text())

  return run


def colours(path):
  """The picture's pixels; a picture of one colour fails."""
  with Image.open(path) as picture:
    pixels = np.asarray(picture.convert("RGB"))
  assert min(pixels.shape[:2]) > 200 and pixels.reshape(-1, 3).std(axis=0).min() > 5
  return pixels


def read(folder, index):
  return [np.asarray(Image.open(folder / "dev" / name / f"{index}.png")) for name in ("low", "high")]


def mean_figures(folder, transform):
  """PSNR and SSIM of the quick pairs, without the commands' own code."""
  figures = []
  for low, high in (read(folder, index) for index in range(QUICK)):
    result = np.asarray(transform(low.astype(np.float32) / 255))
    figures.append((psnr(result, high), ssim(result, high)))
  return dict(zip(("psnr", "ssim"), np.mean(figures, axis=0), strict=True))


def strict(figures):
  """Those of the strict protocol."""
  return {metric: figures[metric] for metric in ("psnr", "ssim")}


def approximately(figures):
  return pytest.approx(figures, rel=1e-3)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_grid_shows_every_part(tmp_path, suffix):
  tall, flat = np.full((40, 20, 3), (0, 255, 0), np.uint8), np.full((20, 40, 3), 0.5)
  rows = [
    Row("tall", [Picture(tall, "text"), None], [Box(2, 2, 8, 8), Box(20, 4, 8, 8)]),
    Row("flat", [Picture(flat), Picture(np.linspace(0, 0.4, 800).reshape(20, 40))]),
  ]
  path = tmp_path / f"grid.{suffix}"
  save_grid(path, rows, columns=["a", "b"], width=2)
  pixels = colours(path).astype(int)
  green = (np.abs(pixels - (0, 255, 0)) < 40).all(-1)
  columns, lines = np.flatnonzero(green.any(0)), np.flatnonzero(green.any(1))
  dots = 150
  assert np.ptp(columns) > 1.9 * dots  # the closer looks fill the width that the tall picture leaves
  assert np.ptp(lines) == pytest.approx((2 + 1.04) * dots, abs=0.1 * dots)  # the picture, and them below it
  boxes = [np.array([int(color[1 + 2 * part : 3 + 2 * part], 16) for part in range(3)]) for color in BOX_COLORS]
  counts = [(np.abs(pixels - box) < 60).all(-1).sum() for box in boxes]
  assert min(counts) > 100
  assert path.read_bytes().startswith({"png": b"\x89PNG", "jpg": b"\xff\xd8"}[suffix])


def test_a_picture_has_a_known_format(tmp_path):
  with pytest.raises(UserError, match=r"picture\.gif"):
    save_grid(tmp_path / "picture.gif", [Row("", [Picture(np.zeros((4, 4, 3)))])], columns=["a"])
  assert not list(tmp_path.iterdir())


def test_closer_looks_are_at_detail_and_at_evenness():
  image = np.random.default_rng(0).normal(128, 4, (100, 150, 3)).clip(0, 255)
  image[10:40, 10:40] = np.random.default_rng(1).integers(0, 255, (30, 30, 3))  # detail
  image[60:90, 100:130] = 120  # flat
  image[:40, 100:] = 0  # flatter by nothing, but dark
  detail, even = choose_boxes(image.astype(np.uint8))
  assert detail.height == detail.width == even.height == 22
  assert 10 <= detail.top <= 18 and 10 <= detail.left <= 18
  assert 60 <= even.top <= 68 and 100 <= even.left <= 108
  assert even.of(image).std() < 1


def test_equal_images_have_a_caption():
  assert figures_text({"psnr": None, "ssim": 1.0}) == "∞ dB / 1.000"


def test_night_photographs(folder, measure, monkeypatch):
  asked = []
  monkeypatch.setattr(fig3_night, "released", lambda path: asked.append(path) or random_model("i+n"))
  report = measure(fig3_night, "--folder", folder / "dev" / "low", "--released", "mine.npz", suffix="jpg")
  results = report["results"]
  assert asked == ["mine.npz"] and set(results["images"]) == {"0.png", "2.png"}  # evenly spaced
  low = read(folder, 2)[0]
  own = results["images"]["2.png"]
  assert own["input"] == {"clipped_share": 0, "brightness": pytest.approx(low.mean() / 255)}
  assert set(own) == {"input", "one gain", "fixed curve", "LIME", "released weights", "ours"}
  assert own["ours"]["brightness"] > own["input"]["brightness"]
  assert results["mean"]["ours"]["brightness"] == pytest.approx(
    np.mean([image["ours"]["brightness"] for image in results["images"].values()])
  )
  assert results["weights_sha256"] == load_pretrained("general").weights_sha256()


def test_lol_panel(folder, measure):
  report = measure(fig4_panel, "--data", folder, suffix="jpg")["results"]
  model = load_pretrained("lol")
  assert strict(report["methods"]["input"]["mean"]) == approximately(mean_figures(folder, lambda image: image))
  own = mean_figures(folder, jax.jit(lambda image: enhance(model, image)))
  assert strict(report["methods"]["ours"]["mean"]) == approximately(own)
  assert all(set(method["images"]) == {"0", "1"} for method in report["methods"].values())


def test_warm_starts_differ_in_nothing_else(folder, plain, measure, monkeypatch):
  trained = []

  def remember(config, *arguments, **options):
    trained.append(config)
    return train(config, *arguments, **options)

  monkeypatch.setattr(fig6_warm_starts, "train", remember)
  report = measure(fig6_warm_starts, "--data", folder, "--config", plain, "--steps", 2)
  variants = report["results"]["variants"]
  assert report["settings"]["config"]["training"]["steps"] == 2
  assert set(variants) == {"fixed", "updated, without rectification", "updated, with rectification"}
  for key in ("psnr", "brightness", "mean_illumination"):
    assert len({own[key] for own in variants.values()}) == 3, key
  assert len({own["parameters"] for own in variants.values()}) == 1
  warm_starts = [config.network.illumination for config in trained]
  assert [(own.warm_start, own.gamma) for own in warm_starts] == [("fixed", 0.5), ("updated", 0), ("updated", 0.5)]
  alike = {"network.illumination.warm_start": "fixed", "network.illumination.gamma": 0.0}
  changed = [config.with_overrides(alike) for config in trained]
  assert changed[0] == changed[1] == changed[2]


def test_noise_removal_against_none(folder, measure):
  results = measure(fig7_noise, "--data", folder)["results"]
  assert set(results) == {"dev", "val", "photographs, full well 1000"}
  lol = load_pretrained("lol")
  for variant in ("i", "i+n"):
    model = lol.with_variant(variant)
    own = mean_figures(folder, jax.jit(lambda image, model=model: enhance(model, image)))
    assert strict(results["dev"][variant]) == approximately(own)
  for own in results.values():
    assert own["gain"]["psnr"] == pytest.approx(own["i+n"]["psnr"] - own["i"]["psnr"])
  assert results["val"]["weights_sha256"] == lol.weights_sha256()
  assert results["photographs, full well 1000"]["weights_sha256"] == load_pretrained("general").weights_sha256()


def test_fewer_electrons_are_more_noise():
  noisy, clean = (fig7_noise._darkened(full_well) for full_well in (1000, 16000))
  for position in range(len(noisy)):
    one, other = noisy.low[position], clean.low[position]
    assert flat_noise(one, one) > 1.5 * flat_noise(other, other)


def test_parts_of_the_model_switched_off(folder, plain, measure):
  report = measure(ablation, "--data", folder, "--config", plain, "--retrain")["results"]
  switched, retrained = report["groups"].values()
  model = load_pretrained("lol")
  variants = {"whole model": model, "noise removal off": model.with_variant("i")}
  for name, own in variants.items():
    figures = mean_figures(folder, jax.jit(lambda image, own=own: enhance(own, image)))
    assert {key: switched[name][key] for key in figures} == approximately(figures)
  for rows in (switched, retrained):
    for row in rows.values():
      assert row["definition"]
      assert row["gain"]["psnr"] == pytest.approx(rows["whole model"]["psnr"] - row["psnr"])
  assert len({row["psnr"] for row in switched.values()}) == len(switched)
  assert set(retrained) == {"whole model", "all cells off"}
  assert retrained["whole model"]["psnr"] != retrained["all cells off"]["psnr"]


def changed(name):
  return ablation.SWITCHED[name].change(load_pretrained("lol"))


def test_what_is_off_is_off():
  images = np.random.default_rng(0).uniform(0, 0.3, (1, 24, 20, 3)).astype(np.float32)
  dark = changed("illumination cells off")
  output = dark.network.illumination.run(dark.convolutions.illumination, images)
  np.testing.assert_allclose(output.illumination, np.clip(output.warm_start, 0.001, 1), atol=1e-6)

  u, t = images[0] * 2, 0.5 + images[0]
  quiet = changed("noise removal cells off")
  bias = np.asarray(load_pretrained("lol").weights["denoising"]["head"]["bias"])
  cleaned = quiet.network.denoising.run(quiet.convolutions.denoising, u[None], t[None])
  np.testing.assert_allclose(cleaned[0], u - (1 - t) * bias, atol=1e-6)

  passing = changed("noise removal cells passed by")
  x = np.ones((1, 6, 5, 5), np.float32)
  assert passing.network.denoising.cell.apply(None, x, None) is x
  assert changed("warm start updated").network.illumination.options.warm_start == "updated"
  both = changed("all cells off").convolutions
  assert not np.any(both.illumination.cells.fusion.kernel) and not np.any(both.denoising.cells.fusion.kernel)


def test_cells_of_nothing_learn_a_constant():
  genotype = Genotype(*[(ablation.NOTHING.name,) * len(EDGES)] * 2)
  options = load_pretrained("lol").options
  model = Model(None, genotype, options, (*CANDIDATES, ablation.NOTHING))
  cell = model.network.denoising.cell
  weights = cell.init(jax.random.key(0))
  constant = np.arange(float(cell.channels))
  weights["fusion"]["bias"] += constant
  x = jax.random.normal(jax.random.key(1), (1, cell.channels, 5, 4))
  value = cell.apply(cell.fold(weights, None), x, jax.nn.leaky_relu)
  np.testing.assert_allclose(value, np.broadcast_to(constant[:, None, None], value.shape))


def test_architectures(folder, plain, measure):
  report = measure(fig8_architectures, "--data", folder, "--config", plain)
  assert -1 <= report["results"]["rank_correlation"]["psnr"] <= 1
  rows = {row["name"]: row for row in report["results"]["architectures"]}
  kinds = [row["kind"] for row in rows.values()]
  assert [kinds.count(kind) for kind in fig8_architectures.COLORS] == [1, 1, 1, 2]
  genotype = load_pretrained("lol").genotype
  assert rows["searched"]["genotype"] == str(genotype)
  assert set(Genotype.from_text(rows["all SC"]["genotype"]).denoising) == {"skip"}
  supernets = [row for row in rows.values() if row["kind"] == "supernet"]
  assert supernets[0]["psnr"] == supernets[1]["psnr"] and len({row["psnr"] for row in rows.values()}) == len(rows) - 1
  assert all(row["parameters"] < supernets[0]["parameters"] for row in rows.values() if row["kind"] != "supernet")
  assert all(row["seconds"] > 0 and row["macs"] > 0 for row in rows.values())


def test_the_contact_sheet_has_dark_and_light_photographs(measure):
  own = measure(contact_sheet, suffix="jpg")["results"]["methods"]
  assert len(own["ours"]) == 6 and set(own["input"]) == set(own["ours"])
  for name, figures in own["input"].items():  # those in good light are their own references
    assert (figures["psnr"] is None) == ("darkened" not in name)
    assert own["ours"][name]["ssim"] > (0.9 if "darkened" not in name else figures["ssim"])


def test_exposures_change_the_input_alone(folder, measure):
  rows = measure(exposures, "--data", folder)["results"]["rows"]
  own = {(row["method"], row["gain"]): row for row in rows}
  assert {gain for _, gain in own} == set(exposures.GAINS)
  expected = mean_figures(folder, lambda image: np.clip(2 * image, 0, 1))
  assert {name: own["input", 2.0][name] for name in expected} == approximately(expected)
  model = load_pretrained("lol")
  expected = mean_figures(folder, jax.jit(lambda image: enhance(model, jax.numpy.clip(0.5 * image, 0, 1))))
  assert {name: own["lol", 0.5][name] for name in expected} == approximately(expected)
  assert own["lol", 1.0]["worst"] <= own["lol", 1.0]["psnr"]


def test_convergence_trains_for_several_numbers_of_steps(folder, plain, measure):
  results = measure(convergence, "--data", folder, "--config", plain, "--train", folder / "train" / "low")["results"]
  assert [row["steps"] for row in results["trainings"]] == [2, 3]
  config = load_config(str(plain)).with_overrides({"data.crop": 32, "training.steps": 3})
  model = train(config, Genotype.named("published"), images=ImageFolder(folder / "train" / "low")).model
  expected = mean_figures(folder, jax.jit(lambda image: enhance(model, image)))
  last = results["summary"][-1]
  assert {name: last[f"i+n {name}"] for name in expected} == approximately(expected)
  assert last["i+n psnr spread"] == 0


def test_all_random_and_single_architectures_are_different():
  searched = Genotype.named("published")
  found = fig8_architectures._genotypes(searched, 6, quick=False)
  assert len(found) == 1 + 7 + 6 and len({str(genotype) for _, genotype in found.values()}) == len(found)
  assert found == fig8_architectures._genotypes(searched, 6, quick=False)


def test_the_plain_supernet_is_the_folded_one():
  network = build_network(load_pretrained("lol").options)
  plain = network._replace(
    **{name: fig8_architectures._with_plain_cell(getattr(network, name)) for name in network._fields}
  )
  image = np.random.default_rng(0).uniform(0, 0.3, (20, 24, 3)).astype(np.float32)
  shares = dict.fromkeys(network._fields, np.random.default_rng(1).dirichlet(np.ones(7), 7).astype(np.float32))

  @jax.jit
  def both(key):
    weights = network.init_weights(key)
    return [enhance_folded(FoldedModel(own.fold("i+n", weights, shares), own), image) for own in (network, plain)]

  results = both(jax.random.key(0))
  np.testing.assert_allclose(*results, atol=1e-5)
  assert np.ptp(results[0]) > 0.1


def test_strategies(folder, plain, measure, monkeypatch):
  known, trained = load_pretrained("lol").genotype, []

  def train_known(config, genotype, *, images):
    """What was found is noted, and one that other tests train too stands in for it: its program exists already."""
    trained.append((config.search.strategy, str(genotype)))
    return train(config, known, images=images)

  monkeypatch.setattr(fig9_strategies, "train", train_known)
  chosen = ["joint", "cooperative"]  # the third would only be another program to compile
  report = measure(fig9_strategies, "--data", folder, "--config", plain, "--strategies", *chosen)
  strategies = report["results"]["strategies"]
  assert list(strategies) == chosen
  assert report["settings"]["budget"] == {"search_steps": 3, "training_steps": 3, "seeds": 1}
  for strategy, own in strategies.items():
    (run,) = own["runs"]
    assert (strategy, run["genotype"]) in trained
    assert own["psnr"] == {"mean": run["psnr"], "std": 0}
    for cell in ("illumination", "denoising"):
      shares = np.array(own["shares"][cell])
      assert shares.shape == (7, 7)
      np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
      assert np.ptp(shares) > 0
      strongest = [CANDIDATES[index].name for index in shares.argmax(axis=1)]
      assert tuple(strongest) == getattr(Genotype.from_text(run["genotype"]), cell)
  assert len({json.dumps(own["shares"]) for own in strategies.values()}) == 2


def test_every_strategy_is_compared():
  assert set(fig9_strategies.STRATEGIES) == set(get_args(get_type_hints(RUASSearchOptions)["strategy"]))


def test_seeds_are_summarised():
  runs = [
    {"psnr": psnr, "ssim": 0.5, "shares": {cell: np.eye(7)[order] for cell in ("illumination", "denoising")}}
    for psnr, order in ((18.0, [0] * 7), (20.0, [0] * 6 + [1]), (19.0, [0] * 7))
  ]
  summary = fig9_strategies._summary(runs)
  assert summary["psnr"] == {"mean": 19.0, "std": 1.0}
  assert summary["agreement"]["denoising"] == pytest.approx([1] * 6 + [2 / 3])
  assert summary["shares"]["illumination"][6][1] == pytest.approx(1 / 3)


def test_steps_are_at_least_one(folder, capsys):
  with pytest.raises(SystemExit):
    fig8_architectures.main(["--data", str(folder), "--every", "0"])
  assert "at least 1" in capsys.readouterr().err
