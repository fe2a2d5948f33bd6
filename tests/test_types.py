"""The public names as a type checker sees them: right uses pass, and a wrong one is found where it is."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
RIGHT = ROOT / "tests" / "typed_use.py"

# What each line does wrong, and the rule that finds it.
IMPORTS = "import optax\nimport ruas_jax\nfrom ruas_jax import bilevel, nas\n"
WRONG = {
  "nas.Player(3)": "reportCallIssue",
  "nas.Player(3, nas.BilevelProblem(print, print))": "reportArgumentType",
  "nas.SearchProblem(init=print)": "reportCallIssue",
  "nas.SearchOptions(hypergradient='exact')": "reportArgumentType",
  "nas.search(print, train=None)": "reportArgumentType",
  "nas.no_such_name": "reportAttributeAccessIssue",
  "ruas_jax.search(steps=10)": "reportCallIssue",
  "ruas_jax.search().metric": "reportAttributeAccessIssue",
  "ruas_jax.load_pretrained('LOL')": "reportArgumentType",
  "ruas_jax.enhance(ruas_jax.load_pretrained())": "reportCallIssue",
  "ruas_jax.enhance('model', [0.5])": "reportArgumentType",
  "ruas_jax.losses.no_such_loss": "reportAttributeAccessIssue",
  "bilevel.make_estimator('cg')": "reportCallIssue",
  "bilevel.make_estimator('cg', inner=0.1)": "reportArgumentType",
  "bilevel.make_estimator('cg', inner=optax.sgd(0.1)).gradient": "reportAttributeAccessIssue",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
  """What pyright says, `{(file, line, rule)}`, of the right uses and of the wrong ones, each on a line of its own."""
  if importlib.util.find_spec("pyright") is None:
    pytest.skip('needs pyright: pip install -e ".[lint]"')
  wrong = tmp_path_factory.mktemp("types") / "wrong.py"
  wrong.write_text(IMPORTS + "".join(f"{line}\n" for line in WRONG))
  command = [sys.executable, "-m", "pyright", "--outputjson", "--project", ROOT, "--pythonpath", sys.executable]
  environment = os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
  done = subprocess.run([*command, RIGHT, wrong], cwd=ROOT, env=environment, capture_output=True, text=True)
  assert done.stdout, done.stderr
  report = json.loads(done.stdout)
  assert report["summary"]["filesAnalyzed"] == 2
  return {
    (pathlib.Path(one["file"]).name, one["range"]["start"]["line"], one.get("rule", one["message"]))
    for one in report["generalDiagnostics"]
    if one["severity"] == "error"
  }


def test_a_right_program_is_clean(found):
  assert not [one for one in found if one[0] == RIGHT.name]


def test_every_wrong_use_is_found(found):
  first = IMPORTS.count("\n")
  expected = {(line, rule) for line, rule in enumerate(WRONG.values(), start=first)}
  assert {(line, rule) for file, line, rule in found if file == "wrong.py"} == expected
