"""The examples of `ruas_jax.bilevel` run in their quick form, and import no other room."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PROGRAM = """
import runpy, sys
program, sys.argv = sys.argv[1], sys.argv[1:]
runpy.run_path(program, run_name="__main__")
rooms = {name.split(".")[1] for name in sys.modules if name.startswith("ruas_jax.")}
assert rooms == {"bilevel"}, rooms
"""


def numbers(name):
  """What the example prints, as lists of numbers."""
  path = ROOT / "examples" / f"{name}.py"
  assert len(path.read_text().splitlines()) < 80
  command = [sys.executable, "-c", PROGRAM, str(path), "--quick"]
  done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
  assert done.returncode == 0, done.stderr
  return [[float(number) for number in re.findall(r"\d+\.\d+", line)] for line in done.stdout.splitlines()]


def test_hyper_cleaning():
  (accuracy,), (right, wrong) = numbers("hyper_cleaning")
  assert 0.7 < accuracy < 1 and right > wrong + 0.1


def test_learned_schedule():
  *rounds, rates = numbers("learned_schedule")
  assert rounds[-1][0] < rounds[0][0]  # validation loss
  assert len(rates) == 5 and min(rates) > 0.1  # all grow


def test_hyperparameter_learning():
  *steps, (informative,), (others,) = numbers("hyperparameter_learning")
  assert steps[-1][0] < steps[0][0]
  assert others > informative


@pytest.mark.parametrize("name", ["hyper_cleaning", "learned_schedule"])
def test_examples_read_without_knowing_ruas(name):
  text = (ROOT / "examples" / f"{name}.py").read_text()
  assert not re.search(r"import ruas_jax$|from ruas_jax import (?!bilevel)", text, re.MULTILINE)
