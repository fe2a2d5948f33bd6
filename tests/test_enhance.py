"""Files are enhanced at their own size, blended as asked, and nothing is lost where one of them is bad."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny_problem import dark_images, fresh_model, truncate, write_images

from ruas_jax.errors import UserError
from ruas_jax.inference.enhance import enhance_files
from ruas_jax.inference.model import enhance


@pytest.fixture(scope="module")
def model():
  return fresh_model().with_variant("i")  # compiles faster


@pytest.fixture
def folder(tmp_path):
  return write_images(tmp_path / "in", dark_images(2))


def pixels(path):
  with Image.open(path) as image:
    return np.asarray(image)


def test_files_and_folders_become_what_the_model_makes_of_them(model, folder, tmp_path):
  odd = write_images(tmp_path / "odd", dark_images(1, height=9, width=13))
  (odd / "0.png").rename(odd / "odd.png")
  seen = []
  written, failures = enhance_files(model, [folder, odd / "odd.png"], tmp_path / "new" / "out", on_file=seen.append)
  assert (failures, seen) == ([], [1, 2, 3])
  assert written == [tmp_path / "new" / "out" / name for name in ("0.png", "1.png", "odd.png")]
  forward = jax.jit(enhance)
  for source, result in zip([folder / "0.png", folder / "1.png", odd / "odd.png"], written, strict=True):
    before, after = pixels(source), pixels(result)
    assert after.shape == before.shape
    expected = np.asarray(forward(model, jnp.asarray(before, jnp.float32) / 255)) * 255
    assert np.abs(after - expected).max() <= 0.501
    assert np.abs(after.astype(int) - before).max() > 10


def test_strength_blends(model, folder, tmp_path):
  images = {}
  for strength in (0.0, 0.25, 1.0):
    enhance_files(model, [folder], tmp_path / str(strength), strength=strength)
    images[strength] = pixels(tmp_path / str(strength) / "0.png").astype(float)
  np.testing.assert_array_equal(images[0.0], pixels(folder / "0.png"))
  blend = 0.75 * images[0.0] + 0.25 * images[1.0]
  assert np.abs(images[0.25] - blend).max() <= 0.5 + 0.25 * 0.5 + 1e-6
  assert np.abs(images[0.25] - images[0.0]).max() > 2


def test_strength_zero_is_exact_at_16_bits(model, tmp_path):
  deep = np.random.default_rng(0).integers(0, 2**16, (16, 20)).astype(np.uint16)
  Image.fromarray(deep).save(tmp_path / "deep.png")
  enhance_files(model, [tmp_path / "deep.png"], tmp_path / "out", strength=0.0)
  np.testing.assert_array_equal(pixels(tmp_path / "out" / "deep.png"), deep)


def test_an_existing_output_stays_unless_told_otherwise(model, folder, tmp_path):
  out = tmp_path / "out"
  out.mkdir()
  (out / "0.png").write_bytes(b"mine")
  written, failures = enhance_files(model, [folder], out)
  assert written == [out / "1.png"]
  assert len(failures) == 1 and str(out / "0.png") in failures[0] and "--overwrite" in failures[0]
  assert (out / "0.png").read_bytes() == b"mine"
  written, failures = enhance_files(model, [folder], out, overwrite=True)
  assert (len(written), failures) == (2, [])
  assert pixels(out / "0.png").shape == pixels(folder / "0.png").shape


def test_a_truncated_image_is_named_and_the_others_are_enhanced(model, folder, tmp_path):
  truncate(folder / "0.png")
  written, failures = enhance_files(model, [folder], tmp_path / "out")
  assert written == [tmp_path / "out" / "1.png"] and os.listdir(tmp_path / "out") == ["1.png"]
  assert len(failures) == 1 and str(folder / "0.png") in failures[0] and "\n" not in failures[0]


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan")])
def test_a_wrong_strength_writes_nothing(strength, model, folder, tmp_path):
  with pytest.raises(UserError, match="--strength"):
    enhance_files(model, [folder], tmp_path / "out", strength=strength)
  assert not (tmp_path / "out").exists()


def test_what_cannot_be_read_or_written_as_a_whole(model, folder, tmp_path):
  for inputs, named in (([], "no image"), ([folder / "none.png"], "none.png"), ([folder, tmp_path / "x"], "x")):
    with pytest.raises(UserError, match=named):
      enhance_files(model, inputs, tmp_path / "out")
  assert not (tmp_path / "out").exists()
  (tmp_path / "file").write_text("")
  for out in (tmp_path / "file", tmp_path / "file" / "below"):
    with pytest.raises(UserError, match=r"--out .*file.*cannot be written"):
      enhance_files(model, [folder], out)
