"""`python -m benchmarks.speed.accelerator`: it runs without what a lent machine may lack, and a part that ends badly
costs no other part's figures."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks.speed.accelerator.__main__ import PARTS
from benchmarks.speed.accelerator.part import Part
from benchmarks.speed.accelerator.processes import PartOf, measure_parts

ROOT = pathlib.Path(__file__).parents[1]
ABSENT = ("grain", "tyro", "tensorflow_datasets", "rich", "matplotlib", "dm_pix", "tifffile", "png")
BLOCK = f"""
import sys

class Blocked:
  def find_spec(self, name, path=None, target=None):
    if name.partition(".")[0] in {ABSENT}:
      raise ModuleNotFoundError(f"No module named {{name!r}} (blocked by a test)", name=name)

sys.meta_path.insert(0, Blocked())
"""
BAD_PARTS = {
  "crashes": """
    import os, signal
    def measure(part):
      part.measure({"what": "before"}, lambda: {"value": 1.5})
      print("about to crash", file=sys.stderr, flush=True)
      os.kill(os.getpid(), signal.SIGKILL)
  """,
  "hangs": """
    import time
    def measure(part):
      time.sleep(600)
  """,
  "comes_after": """
    import json, os
    def measure(part):
      report = lambda: {"parts": list(json.load(open(os.environ["REPORT"]))["results"])}
      part.measure({"what": "the report so far"}, report)
  """,
}


def command(path, *arguments):
  return [sys.executable, "-m", "benchmarks.speed.accelerator", "--quick", "--json", str(path), *arguments]


def python_path(folder):
  return os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])


def test_a_part_that_crashes_or_hangs_is_named_and_the_others_are_measured(tmp_path, monkeypatch):
  for name, program in BAD_PARTS.items():
    (tmp_path / f"{name}.py").write_text("import sys\n" + program.replace("\n    ", "\n"))
  path = tmp_path / "report.json"
  monkeypatch.setenv("PYTHONPATH", python_path(tmp_path))
  monkeypatch.setenv("REPORT", str(path))
  parts = {"crashes": PartOf("crashes", 60), "hangs": PartOf("hangs", 4), "comes_after": PartOf("comes_after", 60)}
  measure_parts(parts, seconds=124, commit="abc", path=path)
  report = json.loads(path.read_text())
  assert report["commit"] == "abc" and report["device"].startswith("cpu") and report["versions"]["jax"]
  crashed, hung, after = report["results"].values()
  assert crashed["status"] == "failed" and "-9" in crashed["error"] and "about to crash" in crashed["error"]
  assert crashed["rows"] == [{"what": "before", "value": 1.5}]
  assert crashed["memory"]["peak_bytes"] > 1e6 and crashed["memory"]["of"] == "process"
  assert hung["status"] == "timed out" and "ended after" in hung["error"] and not hung["rows"]
  assert hung["limit"] <= hung["seconds"] < 60
  assert after["status"] == "done" and after["error"] is None
  assert after["rows"] == [{"what": "the report so far", "parts": ["crashes", "hangs"]}]


def test_a_row_that_fails_or_comes_too_late_is_one_and_the_part_goes_on(tmp_path, capsys):
  def fail():
    raise MemoryError("out of memory")

  part = Part("part", str(tmp_path / "rows"), seconds=60, quick=True)
  part.measure({"size": 1}, fail)
  part.measure({"size": 2}, lambda: [{"seconds": 1.0}, {"seconds": float("nan")}])
  Part("late", str(tmp_path / "rows"), seconds=-1, quick=True).measure({"size": 3}, fail)
  records = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
  assert [record["row"] for record in records if "row" in record] == [
    {"size": 1, "error": "MemoryError: out of memory"},
    {"size": 2, "seconds": 1.0},
    {"size": 2, "seconds": None},
    {"size": 3, "skipped": "no time is left"},
  ]
  assert "part: size 2, seconds 1\n" in capsys.readouterr().out


def test_sides_take_turns(tmp_path):
  part, calls = Part("part", str(tmp_path / "rows"), seconds=60, quick=True), []
  figures = part.median_seconds({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, seconds=0)
  assert "".join(calls) == "ab" * 4  # the first warms up
  assert set(figures) == {"a", "b", "repeats"} and figures["repeats"] == 3


def test_it_runs_without_what_a_lent_machine_may_lack(tmp_path):
  """In all processes, since each reads `sitecustomize`. All parts can be imported; one is measured."""
  (tmp_path / "sitecustomize.py").write_text(BLOCK)
  environment = os.environ | {"PYTHONPATH": python_path(tmp_path)}
  modules = ", ".join(part.module for part in PARTS.values())
  imports = f"import {modules}\ntry:\n  import rich\nexcept ImportError as error:\n  print(error)"
  done = subprocess.run([sys.executable, "-c", imports], env=environment, check=True, capture_output=True, text=True)
  assert "blocked by a test" in done.stdout

  path = tmp_path / "report.json"
  arguments = "--parts", "convolution", "--commit", "abc"
  done = subprocess.run(command(path, *arguments), env=environment, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  report = json.loads(path.read_text())
  assert {"device", "versions", "commit", "date", "settings", "results", "bars"} == set(report)
  assert report["settings"]["quick"] and report["commit"] == "abc"
  rows = report["results"]["convolution"]["rows"]
  assert not [row for row in rows if "error" in row or "skipped" in row]
  compared = [row for row in rows if "form" in row]
  assert len(compared) == 13 + 13 + 16 and all(row["difference"] < 1e-5 for row in compared)
  assert all(row["seconds"] > 0 and row["compile_seconds"] > 0 for row in rows[1:])
  assert f"side {compared[0]['side']}" in done.stdout


def test_what_was_measured_before_a_stop_is_kept(tmp_path):
  path = tmp_path / "report.json"
  arguments = command(path, "--parts", "convolution")
  with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
    assert any("loop alone" in line for line in process.stdout)
    process.terminate()
    assert process.wait() == 1
  result = json.loads(path.read_text())["results"]["convolution"]
  assert result["status"] == "stopped" and result["rows"][1]["what"] == "loop alone"


def test_an_unknown_part_is_refused(tmp_path):
  done = subprocess.run(command(tmp_path / "a", "--parts", "speed"), cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 2 and "no part 'speed'" in done.stderr and "whole_search" in done.stderr


@pytest.mark.slow
def test_all_parts(tmp_path):
  """Some two minutes on two cores."""
  path = tmp_path / "report.json"
  environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  subprocess.run(command(path), cwd=ROOT, env=environment, check=True)
  results = json.loads(path.read_text())["results"]
  assert list(results) == list(PARTS)
  for name, result in results.items():
    assert result["status"] == "done" and result["rows"], name
    assert not [row for row in result["rows"] if "error" in row], name
