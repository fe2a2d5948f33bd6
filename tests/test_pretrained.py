"""The bundled weights: they load, fit their promises of size and hash, and damage is one line."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

import ruas_jax
from ruas_jax.errors import UserError
from ruas_jax.photos import pretrained
from ruas_jax.photos.pretrained import load_pretrained, write_pretrained

WEIGHTS = pathlib.Path(pretrained.__file__).parent / "weights"


@pytest.mark.parametrize("name", ["general", "lol"])
def test_a_bundled_model_is_small_and_what_its_description_says(name):
  model = ruas_jax.load_pretrained(name)
  assert model.parameters() <= 3500
  assert model.parameters() == sum(leaf.size for leaf in jax.tree.leaves(model.weights))
  description = json.loads((WEIGHTS / f"{name}.json").read_text())
  assert model.weights_sha256() == description["weights_sha256"]
  assert description["about"]["config"] == name
  assert (WEIGHTS / f"{name}.npz").stat().st_size < 40_000
  assert description["weights_sha256"] in (WEIGHTS / "README.md").read_text()


def test_a_written_model_is_read_back(tmp_path):
  model = load_pretrained("lol")
  write_pretrained(tmp_path, "general", model, {"seed": 3})
  again = load_pretrained("general", folder=tmp_path)
  assert again.genotype == model.genotype and again.options == model.options
  jax.tree.map(np.testing.assert_array_equal, again.weights, model.weights)


def test_an_unknown_name_and_damage_are_one_line(tmp_path):
  with pytest.raises(UserError, match="no pretrained model 'best'; give one of general, lol"):
    load_pretrained("best")
  with pytest.raises(UserError, match="cannot be read"):
    load_pretrained("lol", folder=tmp_path)
  for suffix in ("json", "npz"):
    shutil.copy(WEIGHTS / f"lol.{suffix}", tmp_path)
  (tmp_path / "lol.npz").write_bytes((WEIGHTS / "lol.npz").read_bytes()[:900])
  with pytest.raises(UserError, match="cannot be read"):
    load_pretrained("lol", folder=tmp_path)
