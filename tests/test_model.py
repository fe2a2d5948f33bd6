"""A model is a pytree, enhancement a pure function of it, and a checkpoint gives back exactly what was saved."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from tiny_problem import HEIGHT, NETWORK, WIDTH, dark_images, fresh_model

from ruas_jax.errors import UserError
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.operations import CANDIDATES, Operation
from ruas_jax.lowlight.options import RELEASED
from ruas_jax.photos.model import Model, enhance, load, save_model

PUBLISHED = Genotype.named("published")


@pytest.fixture(scope="module")
def model():
  return fresh_model()


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
  folder = tmp_path_factory.mktemp("model")
  save_model(folder, model.with_variant("i"), {"seed": 3})
  return folder


def assert_same_weights(model, other):
  jax.tree.map(np.testing.assert_array_equal, model.weights, other.weights)
  assert jax.tree.structure(model.weights) == jax.tree.structure(other.weights)


def test_load_gives_back_what_was_saved(model, saved):
  for path in (saved, str(saved), saved / "checkpoint"):
    back = load(path)
    assert_same_weights(back, model)
    assert jax.tree.map(lambda leaf: leaf.dtype, back.weights) == jax.tree.map(lambda leaf: leaf.dtype, model.weights)
    assert (back.genotype, back.options, back.operations) == (PUBLISHED, model.with_variant("i").options, CANDIDATES)
    assert back.weights_sha256() == model.weights_sha256()


def test_the_checkpoint_is_orbax_and_carries_genotype_variant_and_configuration(saved, model):
  about = json.loads((saved / "checkpoint" / "about.json").read_text())
  assert about["genotype"] == json.loads(PUBLISHED.to_json())
  assert (about["variant"], about["config"]) == ("i", {"seed": 3})
  with ocp.StandardCheckpointer() as checkpointer:
    found = checkpointer.restore(saved / "checkpoint" / "arrays", model.weights)
  jax.tree.map(np.testing.assert_array_equal, found, model.weights)


def test_a_checkpoint_of_another_version_is_one_line(saved, tmp_path):
  shutil.copytree(saved / "checkpoint", tmp_path / "checkpoint")
  (tmp_path / "checkpoint" / "about.json").unlink()
  sums = tmp_path / "checkpoint" / "checksums.json"
  sums.write_text(
    json.dumps({name: each for name, each in json.loads(sums.read_text()).items() if name != "about.json"})
  )
  with pytest.raises(UserError, match=r"^checkpoint \S+ was written by another version.*: it has no about\.json$"):
    load(tmp_path)


def test_saving_again_replaces(tmp_path, model):
  save_model(tmp_path, model)
  save_model(tmp_path, fresh_model(seed=1))
  assert_same_weights(load(tmp_path), fresh_model(seed=1))
  assert os.listdir(tmp_path) == ["checkpoint"]


def test_every_damaged_file_is_found(saved, tmp_path, capfd):
  checkpoint = tmp_path / "checkpoint"
  shutil.copytree(saved / "checkpoint", checkpoint)
  files = [path for path in checkpoint.rglob("*") if path.is_file()]
  assert len(files) > 5
  for file in files:
    content = file.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    for damage in (None, content[:middle], b"", flipped):
      file.unlink() if damage is None else file.write_bytes(damage)
      with pytest.raises(UserError, match="damaged") as caught:
        load(tmp_path)
      assert str(tmp_path) in str(caught.value) and len(str(caught.value).splitlines()) == 1
      file.write_bytes(content)
  load(tmp_path)
  assert capfd.readouterr().err == ""


def test_what_is_no_checkpoint_is_refused(saved, tmp_path):
  (tmp_path / "file").write_text("")
  (tmp_path / "folder").mkdir()
  for name in ("file", "folder", "missing", "file/below"):
    with pytest.raises(UserError, match="no checkpoint at"):
      load(tmp_path / name)
  with pytest.raises(UserError, match="file/below/checkpoint: the checkpoint cannot be written"):
    save_model(tmp_path / "file" / "below", fresh_model())


@pytest.mark.parametrize(
  "wrong",
  [
    {"genotype": Genotype(PUBLISHED.illumination, ("conv_3x3",) * 7)},
    {"genotype": Genotype(("conv_1x1",) * 7, PUBLISHED.denoising)},
    {"options": RELEASED},
  ],
)
def test_weights_that_do_not_fit_are_refused(wrong, model, tmp_path):
  with pytest.raises(UserError, match="weights do not fit its genotype"):
    save_model(tmp_path, dataclasses.replace(model, **wrong))
  assert not os.listdir(tmp_path)


def test_a_checkpoint_of_another_device_is_loaded_and_names_none(saved, model, tmp_path):
  code = (
    "import sys, dataclasses, jax, ruas_jax\n"
    "model = ruas_jax.load(sys.argv[1])\n"
    "there = jax.device_put(model.weights, jax.devices()[1])\n"
    "ruas_jax.save_model(sys.argv[2], dataclasses.replace(model, weights=there))\n"
  )
  environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
  subprocess.run([sys.executable, "-c", code, str(saved), str(tmp_path)], env=environment, check=True)
  assert not (tmp_path / "checkpoint/arrays/_sharding").exists()
  assert_same_weights(load(tmp_path), model)


def test_own_operations_are_given_again_when_loading(tmp_path):
  shift = Operation("shift", None, lambda _, channels: jnp.eye(channels)[None, None])
  operations, genotype = (*CANDIDATES, shift), Genotype(("shift",) * 7, ("skip",) * 7)
  weights = build_network(RELEASED, genotype, operations).init_weights(jax.random.key(0))
  model = Model(weights, genotype, RELEASED, operations)
  save_model(tmp_path, model)
  assert_same_weights(load(tmp_path, operations=operations), model)
  with pytest.raises(UserError, match="unknown operation 'shift'"):
    load(tmp_path)


def test_the_hash_tells_weights_apart_and_nothing_else(model):
  sha = model.weights_sha256()
  assert len(sha) == 64 and sha == fresh_model().weights_sha256() == model.with_variant("i").weights_sha256()
  leaves, structure = jax.tree.flatten(model.weights)
  for position in (0, len(leaves) - 1):
    nudged = np.array(leaves[position])
    nudged.flat[-1] = np.nextafter(nudged.flat[-1], np.float32(2))
    others = [*leaves[:position], nudged, *leaves[position + 1 :]]
    assert dataclasses.replace(model, weights=structure.unflatten(others)).weights_sha256() != sha


def test_published_parameters_by_variant():
  weights = jax.eval_shape(build_network(RELEASED, PUBLISHED).init_weights, jax.random.key(0))
  model = Model(weights, PUBLISHED, RELEASED)
  assert model.options.variant == "i+n" and model.with_variant(None) == model
  assert (model.parameters(), model.with_variant("i").parameters()) == (3438, 1161)
  assert model.with_variant("i").macs(400, 600) < model.macs(400, 600)
  assert model.with_variant("i").with_variant("i+n") == model


def test_enhance_is_pure_and_takes_any_leading_axes(model):
  images = jnp.asarray(np.stack(dark_images(4)), jnp.float32).reshape(2, 2, HEIGHT, WIDTH, 3) / 255
  before = [np.array(leaf) for leaf in jax.tree.leaves(model.weights)]
  everything = jax.jit(enhance)(model, images)
  assert everything.shape == images.shape and everything.dtype == jnp.float32
  assert float(everything.min()) >= 0 and float(everything.max()) <= 1
  assert float(jnp.abs(everything - images).max()) > 0.05  # it does something
  np.testing.assert_allclose(enhance(model, images[1, 0]), everything[1, 0], atol=2e-6)
  np.testing.assert_allclose(jax.jit(enhance)(model, images[0]), everything[0], atol=2e-6)
  other = fresh_model(seed=1)
  models = jax.tree.map(lambda *leaves: jnp.stack(leaves), model, other)
  population = jax.jit(jax.vmap(enhance))(models, images)
  np.testing.assert_allclose(population[0], everything[0], atol=2e-6)
  np.testing.assert_allclose(population[1], jax.jit(enhance)(other, images[1]), atol=2e-6)
  for leaf, value in zip(jax.tree.leaves(model.weights), before, strict=True):
    np.testing.assert_array_equal(leaf, value)


def test_the_variant_decides_the_result(model):
  image = jnp.asarray(dark_images(1)[0], jnp.float32) / 255
  lit, clean = (jax.jit(enhance)(model.with_variant(variant), image) for variant in ("i", "i+n"))
  assert float(jnp.abs(lit - clean).max()) > 1e-3
  assert model.options == NETWORK
