"""The examples of docs/ run as they are printed."""

import pathlib
import re

import numpy as np

DOCS = pathlib.Path(__file__).parents[1] / "docs"


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
