"""`ruas demo`, shrunk: all of its pictures and figures, and a folder that it may replace."""

import dataclasses
import json

import pytest
from PIL import Image
from tiny_problem import NETWORK, dark_images, get_config, ruas, write_images

from ruas_jax.errors import UserError
from ruas_jax.experiments.demo import demo
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.photos.model import load


@pytest.fixture
def shrunk(monkeypatch, tmp_path):
  """A small search of two stages in place of the demo's own."""
  images = write_images(tmp_path / "images", dark_images(6))
  config = dataclasses.replace(get_config(), network=NETWORK).with_overrides({"data.train": str(images)})
  monkeypatch.setattr("ruas_jax.experiments.demo.load_config", lambda name: config)


def test_the_demo_shows_everything_and_replaces_its_own_folder(shrunk, tmp_path, capsys, monkeypatch):
  out = tmp_path / "demo"
  assert ruas("demo", "--out", out) == 0
  printed = capsys.readouterr().out
  genotype, report = Genotype.load(out / "genotype.json"), json.loads((out / "evaluation.json").read_text())
  assert str(genotype) in printed
  for path in (line.strip() for line in printed.split("look at\n")[1].splitlines()):
    assert path.startswith(str(out)) and (tmp_path / path).exists()
  for name in ("alpha.png", "genotype.png", "before_after.png", "search/losses.png", "model/losses.png"):
    with Image.open(out / name) as picture:
      picture.load()
  model = load(out / "model")
  assert model.genotype == genotype
  assert report["weights_sha256"] == model.weights_sha256() and report["parameters"] == model.parameters()
  assert set(report["images"]) == {path.stem for path in (out / "dark").iterdir()}
  assert {path.name for path in (out / "enhanced").iterdir()} == {path.name for path in (out / "dark").iterdir()}
  assert f"PSNR {report['input']['psnr']:.2f} -> {report['mean']['psnr']:.2f} dB" in printed

  def interrupted(*_, **__):
    raise KeyboardInterrupt

  monkeypatch.setattr("ruas_jax.experiments.demo.search", interrupted)
  for _ in range(2):  # its own folder is replaced, be it complete or not
    (out / "left over").write_text("of an earlier run")
    with pytest.raises(KeyboardInterrupt):
      demo(out)
    assert not (out / "left over").exists() and not (out / "evaluation.json").exists()


def test_somebody_elses_folder_is_left_alone(shrunk, tmp_path):
  theirs = tmp_path / "theirs"
  theirs.mkdir()
  (theirs / "thesis.txt").write_text("years of work")
  (tmp_path / "file").write_text("")
  for out in (theirs, tmp_path / "file"):
    with pytest.raises(UserError, match="not an earlier demo"):
      demo(out)
  with pytest.raises(UserError, match="cannot be written"):
    demo(tmp_path / "file" / "below")
  assert (theirs / "thesis.txt").read_text() == "years of work" and len(list(theirs.iterdir())) == 1
