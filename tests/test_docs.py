"""The examples of docs/ run as they are printed; public names are in the reference, and figures are the records'."""

import json
import pathlib
import re

import numpy as np
import pytest

import ruas_jax
from ruas_jax import bilevel, nas

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"


def examples(name):
  return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)


def test_tuning_regularisation_weights():
  """What the page says of its example: the figures, and its length."""
  _, example = examples("hypergradients.md")
  assert len([line for line in example.splitlines() if line]) <= 30
  values = {}
  exec(example, values)
  first, last, alpha = values["errors"][0], values["errors"][-1], np.asarray(values["alpha"])
  assert f"{first:.1f}" == "9.7" and f"{last:.1f}" == "5.5"
  assert alpha[5:].mean() > alpha[:5].mean() + 1


def test_bilevel_problems():
  """The blocks run, and alpha ends where the page says, close to the best value that it names."""
  values = {}
  for block in examples("bilevel.md"):
    exec(block, values)
  (x, y), (x_held, y_held) = (
    (np.asarray(part["x"], np.float64), np.asarray(part["y"])) for part in (values["train"], values["validation"])
  )

  def loss(alpha):
    weights = np.linalg.solve(x.T @ x / len(x) + np.exp(alpha) * np.eye(10), x.T @ y / len(x))
    return np.mean((x_held @ weights - y_held) ** 2)

  grid = np.arange(-4, 0, 0.01)
  best = grid[np.argmin([loss(alpha) for alpha in grid])]
  assert f"{values['found'].alpha:.2f}" == "-1.92" and f"{best:.2f}" == "-1.89"
  assert "ends at −1.92" in (DOCS / "bilevel.md").read_text()
  assert int(values["state"].step) == 3


def test_first_commands_and_photographs():
  values = {}
  for block in (*examples("index.md"), *examples("photographs.md")):
    exec(block, values)
  assert values["out"].gradient.shape == () and np.isfinite(values["out"].gradient)
  assert values["bright"].shape == values["dark"].shape and float(values["bright"].mean()) > 0.1


def names_in(page):
  """The names that tables of a page list in their first column."""
  cells = re.findall(r"^\| (`.*?`[^|]*) \|", page, re.MULTILINE)
  return {name for cell in cells for name in re.findall(r"`(.*?)`", cell)}


def test_searching_your_own_problem(capsys):
  """All blocks of the page in one session; what its comments and tables say is true."""
  page, values = (DOCS / "search.md").read_text(), {}
  blocks = examples("search.md")
  assert len(blocks) >= 9
  found = []
  for block in blocks:
    exec(block, values)
    found.append(values["found"])
  first, noisy = found[0], found[1]
  assert first.derived == {"edge": [1]} and len(first.metrics) == 100
  of_cell = {"step", "cell_train_loss", "cell_validation_loss", "cell_iterations"}
  assert set(noisy.metrics[1]) == of_cell | {"cell_train_largest_error", "cell_validation_largest_error"}
  assert set(noisy.metrics[0]) - set(noisy.metrics[1]) == {"alpha_edge"} and "alpha_NAME" in names_in(page)
  assert of_cell <= names_in(page)
  diagnosed = next(result.metrics[2] for result in found if len(result.metrics) == 6)
  described = {name for name in names_in(page) if re.search("norm|hessian|entropy", name)}
  assert described == {name for name in diagnosed if re.search("norm|hessian|entropy", name)}
  folder, longer = values["folder"], values["longer"]
  assert len(longer.metrics) == 8
  written = {path.name + "/" * path.is_dir() for path in folder.iterdir() if not path.name.startswith(".")}
  assert written == {name for name in names_in(page) if re.search(r"\.json|/$", name)}
  assert values["best"].architecture == (1,)
  assert [result.derived for result in values["front"].results] == [{"edge": [1]}, {"edge": [0]}]
  population = values["population"]
  assert [tuple(member.values.values()) for member in population.members] == [(0.01,), (0.01,), (1.0,), (1.0,)]
  assert population.failures == [None] * 4
  assert re.search(r"^player 'cell': .*float32\[32\]", values["message"])
  assert "square\n" in capsys.readouterr().out


MODULES = (ruas_jax, nas, nas.benchmark, bilevel, bilevel.problems)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_name_is_in_the_reference(module):
  page = (DOCS / "api" / f"{module.__name__.removeprefix('ruas_jax.').replace('.', '_')}.md").read_text()
  listed = re.findall(r"^::: (\S+)$", page, re.MULTILINE)
  assert sorted(listed) == sorted(f"{module.__name__}.{name}" for name in module.__all__ if not name.startswith("_"))


def test_the_guide_to_videos_has_the_recorded_figures():
  results = json.loads((ROOT / "benchmarks" / "results" / "video.json").read_text())["results"]
  guide = (DOCS / "video.md").read_text()
  for row in results["scenes"]:
    assert f"| {100 * row['clip']:.2g} % | {100 * row['result']:.2g} % | {row['ratio']:.2f} |" in guide
  change = {name: f"{100 * value:.1f} %" for name, value in results["background_change"].items()}
  assert f"within {change['result']} (the clip's: {change['clip']})" in guide and f"by {change['alone']}" in guide
  assert f"{results['frames_per_second']:.1f} frames per second" in guide
  assert f"All {results['sound_packets']} packets" in guide
