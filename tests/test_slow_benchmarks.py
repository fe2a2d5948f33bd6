"""The benchmarks run in their quick form and report what they must (`make test-slow`)."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from conftest import shared

from ruas_jax.convolution import native

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def report(tmp_path, name: str, *arguments: str) -> dict:
  return run(tmp_path, "-m", f"benchmarks.{name}", *arguments)


def run(tmp_path, *command: str) -> dict:
  path = tmp_path / "report.json"
  command = [sys.executable, *command, "--quick", "--json", str(path)]
  # The tests' own flags make programs that compile fast and run slowly.
  environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  subprocess.run(command, cwd=ROOT, env=environment, check=True)
  values = json.loads(path.read_text())
  assert {"device", "versions", "commit", "settings", "results", "bars"} <= set(values)
  assert values["bars"] and all(set(bar) == {"value", "bar", "met"} for bar in values["bars"].values())
  return values


def test_lol(tmp_path):
  """Even a shrunk search and training leave the input far behind."""
  values = report(tmp_path, "paper.lol", "--data", str(shared("data/lol")))
  assert all(bar["met"] for bar in values["bars"].values())
  figures = values["results"]["figures"]
  assert figures["ours"]["dev"]["psnr"] > figures["input"]["dev"]["psnr"] + 3
  losses = values["results"]["training_losses"]["illumination_train_loss"]
  assert losses["last_tenth"] < losses["first_tenth"]


def test_compile_time(tmp_path):
  assert report(tmp_path, "speed.compile_time")["results"][0]["compile"] > 0


def test_start(tmp_path):
  values = report(tmp_path, "speed.start")
  assert values["bars"]["help_over_import_jax"]["met"] and values["bars"]["import_seconds"]["met"]


@pytest.mark.skipif(not native.form().native, reason="counts calls of the compiled convolution")
def test_search_round(tmp_path):
  """An exact update takes five gradients, and a first-order update two; what the modules share is computed once."""
  exact, first_order = report(tmp_path, "speed.search_round")["results"]["rows"]
  assert 1.5 < exact["operations"] / first_order["operations"] < 2.5
  assert exact["calls"] > first_order["calls"] > 0


def test_convolution(tmp_path):
  """The library is several times slower, whatever else the machine does."""
  values = report(tmp_path, "speed.convolution")
  assert values["bars"]["convolution_times_the_library"]["met"]
  assert all(row["xla"] > 0 and row["library"] > 0 and row["product"] > 0 for row in values["results"]["rows"])
  if native.form().native:
    assert all(row["native"] > row["library"] for row in values["results"]["rows"])


def test_population(tmp_path):
  values = report(tmp_path, "speed.population")
  assert values["bars"]["population_member_difference"]["met"]
  assert values["results"]["speed"][0]["speed_up"] > 0


def test_tabular(tmp_path):
  """Entries of both tables are trained again and agree with them."""
  values = report(tmp_path, "tabular", "check")
  assert all(bar["met"] for bar in values["bars"].values())


def test_search_throughput(tmp_path):
  """Both sides compute the same, or nothing is timed."""
  pytest.importorskip("torch", reason="needs the extra `bench`")
  values = report(tmp_path, "speed.search_throughput")
  assert max(values["results"]["agreement"].values()) < 1e-4


def test_demo(tmp_path):
  values = report(tmp_path, "speed.demo_time")
  assert values["results"]["mean"]["psnr"] > values["results"]["input"]["psnr"]


def test_inference(tmp_path):
  values = report(tmp_path, "speed.inference")
  assert all(bar["met"] for bar in values["bars"].values())
  shared, own = values["results"]["folder"]
  assert shared["compiled"] < own["compiled"] == own["sizes"]


def test_precision(tmp_path):
  """Fewer bits, larger errors."""
  results = report(tmp_path, "precision")["results"]
  assert all(results[part] for part in ("hypergradient", "images", "training", "search"))
  for part, figure in (("hypergradient", "direct_relative_error"), ("images", "mean_levels")):
    figures = {row["arithmetic"]: row[figure] for row in results[part]}
    assert max(figures["exact"], figures["high, TPU"]) < figures["fast, GPU"] / 10 < figures["fast, TPU"] / 20
    assert "fast, TPU" in results["seen"][part]


def test_hypergrad(tmp_path):
  """On a short search; what does not depend on how busy the machine is must hold."""
  values = run(tmp_path, "-c", "from ruas_jax.commands.app import main; main()", "hypergrad")
  assert all(bar["met"] for name, bar in values["bars"].items() if not name.endswith("_time"))
  assert len(values["bars"]) == 7 and values["settings"]["crop"] == 96


def test_video(tmp_path):
  values = report(tmp_path, "speed.video")
  assert all(bar["met"] for bar in values["bars"].values()) and len(values["results"]["cuts"]) == 3


def test_folder(tmp_path):
  rounds = report(tmp_path, "speed.folder")["results"]["rounds"]
  assert len(rounds) == 2 and all(row["folder"] > 0 and row["computation"] > 0 for row in rounds)
