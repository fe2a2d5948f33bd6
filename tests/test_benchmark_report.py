"""A measurement's report holds what the README promises, and a missed bar is a result."""

import json
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import report as benchmark_report
from benchmarks.bars import BARS
from ruas_jax.engine import environment, report
from ruas_jax.engine.report import Bar


def test_every_key_is_there_and_bars_are_compared(tmp_path):
  path = tmp_path / "results" / "speed.json"
  bars = {"demo_seconds": jnp.float32(181.0), "lol_dev_psnr_above_input": np.float64(19.5)}
  settings = {"size": (320, 320), "quick": False}
  returned = benchmark_report.write_report(path, settings=settings, results={"a": [1, np.nan]}, bars=bars)
  record = json.loads(path.read_text())
  assert record == returned
  assert set(record) == {"device", "versions", "commit", "date", "settings", "results", "bars"}
  assert record["bars"] == {
    "demo_seconds": {"value": 181.0, "bar": 180.0, "met": False},
    "lol_dev_psnr_above_input": {"value": 19.5, "bar": 7.22, "met": True},
  }
  assert record["settings"] == {"size": [320, 320], "quick": False}
  assert record["results"] == {"a": [1, None]}
  assert {"python", "jax", "jaxlib", "flax", "optax", "numpy"} <= set(record["versions"])
  assert record["device"] and record["commit"] and record["date"].endswith("+00:00")


def test_torch_is_named_only_where_it_was_used(monkeypatch):
  monkeypatch.delitem(environment.sys.modules, "torch", raising=False)
  assert "torch" not in environment.versions()
  monkeypatch.setitem(environment.sys.modules, "torch", object())
  monkeypatch.setattr(environment.importlib.metadata, "version", lambda name: f"{name} version")
  assert environment.versions()["torch"] == "torch version"


def test_nothing_is_written_without_a_file(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert benchmark_report.write_report(None, settings={}, results={}, bars={})["bars"] == {}
  assert not list(tmp_path.iterdir())


def test_an_unknown_bar_is_named(tmp_path):
  with pytest.raises(KeyError, match=r"'speed'.*demo_seconds"):
    benchmark_report.write_report(tmp_path / "a.json", settings={}, results={}, bars={"speed": 1.0})
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_was_not_measured_is_an_error(tmp_path, value):
  with pytest.raises(ValueError, match="demo_seconds"):
    benchmark_report.write_report(tmp_path / "a.json", settings={}, results={}, bars={"demo_seconds": value})
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("sense", "met"), [("at_least", (False, True, True)), ("at_most", (True, True, False))])
def test_sense_and_equality(sense, met):
  bar = Bar(2.0, sense, "a test")
  assert tuple(bar.met(value) for value in (1.0, 2.0, 3.0)) == met


def test_bars_have_a_known_sense_and_a_source():
  for name, bar in BARS.items():
    assert bar.sense in ("at_least", "at_most", "above") and bar.source and np.isfinite(bar.threshold), name


def test_commit_says_dirty_but_not_for_results(tmp_path, monkeypatch):
  monkeypatch.setattr(report, "_ROOT", tmp_path)
  assert report.checked_out_commit() == "unknown"

  def git(*arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
    return done.stdout.strip()

  git("init", "--quiet")
  (tmp_path / "code.py").write_text("1\n")
  git("add", ".")
  git("commit", "--quiet", "-m", "first")
  commit = git("rev-parse", "HEAD")
  assert report.checked_out_commit() == commit
  (tmp_path / "benchmarks" / "results").mkdir(parents=True)
  (tmp_path / "benchmarks" / "results" / "speed.json").write_text("{}")
  assert report.checked_out_commit() == commit
  (tmp_path / "code.py").write_text("2\n")
  assert report.checked_out_commit() == commit + "-dirty"


def test_options(tmp_path):
  parser = benchmark_report.argument_parser("speed")
  assert vars(parser.parse_args([])) == {"json": None, "quick": False}
  arguments = parser.parse_args(["--quick", "--json", str(tmp_path / "a.json")])
  assert arguments.quick and arguments.json == tmp_path / "a.json"


def test_table(capsys):
  report.print_table([{"method": "exact", "seconds": 1.23456}, {"method": "first", "extra": "unseen"}], title="steps")
  out = capsys.readouterr().out
  assert "steps" in out and "1.235" in out and "first" in out and "unseen" not in out
