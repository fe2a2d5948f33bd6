"""The evaluation says of a model what its own images, compared by the metrics, say; and which model it was."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_problem import dark_images, fresh_model, ruas, truncate, write_images

from ruas_jax.data.sources import PairFolders
from ruas_jax.errors import UserError
from ruas_jax.evaluation.evaluate import evaluate, evaluate_images
from ruas_jax.evaluation.metrics import PROTOCOL, psnr, ssim, with_mean_of
from ruas_jax.photos.model import enhance, save_model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  folder = tmp_path_factory.mktemp("evaluate")
  low = dark_images(3)
  write_images(folder / "low", low)
  write_images(folder / "high", [np.minimum(4 * image.astype(int) + 9, 255).astype(np.uint8) for image in low])
  save_model(folder / "model", fresh_model())
  return folder


@pytest.fixture(scope="module")
def pairs(place):
  return PairFolders(place / "low", place / "high")


def test_the_report_is_what_the_metrics_say_of_the_enhanced_images(pairs):
  model, seen = fresh_model(), []
  report = evaluate(model, pairs, lambda done, **figures: seen.append((done, figures)))
  assert list(report["images"]) == ["0", "1", "2"]
  forward = jax.jit(enhance)
  for name, (low, high) in zip(pairs.names, pairs, strict=True):
    output = np.asarray(forward(model, jnp.asarray(low, jnp.float32) / 255))
    scaled = with_mean_of(high, output)
    assert report["images"][name] == {"psnr": psnr(output, high), "ssim": ssim(output, high)} | {
      "gt_mean_psnr": psnr(scaled, high),
      "gt_mean_ssim": ssim(scaled, high),
    }
  for metric in ("psnr", "ssim", "gt_mean_psnr", "gt_mean_ssim"):
    values = [figures[metric] for figures in report["images"].values()]
    assert report["mean"][metric] == pytest.approx(sum(values) / 3) and len(set(values)) == 3
  shown = [{metric: figures[metric] for metric in ("psnr", "ssim")} for figures in report["images"].values()]
  assert seen == list(enumerate(shown, start=1))
  assert report["parameters"] == model.parameters() == sum(leaf.size for leaf in jax.tree.leaves(model.weights))
  assert report["macs"] == model.macs(400, 600)
  assert (report["variant"], report["protocol"]) == ("i+n", PROTOCOL)
  assert report["weights_sha256"] == model.weights_sha256()


def test_the_command_writes_it_and_the_variant_can_be_changed(place, capsys):
  common = ("evaluate", "--low", place / "low", "--high", place / "high", "--checkpoint", place / "model")
  reports = {}
  for arguments in ([], ["--variant", "i"]):
    assert ruas(*common, "--json", place / "new" / "report.json", *arguments) == 0
    report = json.loads((place / "new" / "report.json").read_text())
    assert set(report) == {"mean", "images", "parameters", "macs", "variant", "protocol", "weights_sha256"}
    assert set(report["mean"]) == {"psnr", "ssim", "gt_mean_psnr", "gt_mean_ssim"}
    assert type(report["parameters"]) is type(report["macs"]) is int
    reports[report["variant"]] = report
    printed = capsys.readouterr().out
    assert f"{report['mean']['psnr']:.3f} dB" in printed
    assert f"with GT-mean {report['mean']['gt_mean_psnr']:.3f} dB, {report['mean']['gt_mean_ssim']:.4f}" in printed
  assert set(reports) == {"i", "i+n"}
  assert reports["i"]["mean"] != reports["i+n"]["mean"]
  assert reports["i"]["weights_sha256"] == reports["i+n"]["weights_sha256"]
  for number in ("parameters", "macs"):
    assert reports["i"][number] < reports["i+n"][number]


def test_equal_images_are_null_in_json_and_infinite_in_words(place, capsys):
  black = write_images(place / "black", [np.zeros((16, 20, 3), np.uint8)])
  common = ("evaluate", "--low", black, "--high", black, "--checkpoint", place / "model", "--variant", "i")
  assert ruas(*common, "--json", place / "black.json") == 0
  report = json.loads((place / "black.json").read_text())
  expected = {"psnr": None, "ssim": 1.0, "gt_mean_psnr": None, "gt_mean_ssim": 1.0}
  assert report["mean"] == report["images"]["0"] == expected
  assert "infinite dB" in capsys.readouterr().out


def test_images_that_cannot_be_compared_are_named(place, tmp_path):
  small = write_images(tmp_path / "small", dark_images(1, height=10))
  with pytest.raises(UserError, match=r"pair 0: .*20x10 pixels is smaller"):
    evaluate_images(lambda image: image, PairFolders(small, small))


def test_a_pair_that_cannot_be_read_is_named_and_left_out(place, tmp_path, capsys):
  low = write_images(tmp_path / "low", dark_images(3))
  truncate(low / "2.png")
  common = ("evaluate", "--low", low, "--high", place / "high", "--checkpoint", place / "model")
  assert ruas(*common, "--json", tmp_path / "report.json") == 1
  assert "2.png" in capsys.readouterr().err
  assert set(json.loads((tmp_path / "report.json").read_text())["images"]) == {"0", "1"}
