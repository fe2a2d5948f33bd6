"""Files are enhanced at their own size, blended as asked, and nothing is lost where one of them is bad."""

import dataclasses
import os
import threading

import jax
import jax.numpy as jnp
import numpy as np
import png
import pytest
from PIL import Image
from tiny_problem import dark_images, fresh_model, ruas, truncate, write_images

from ruas_jax.errors import UserError
from ruas_jax.photos import enhance as enhance_module
from ruas_jax.photos.enhance import enhance_files
from ruas_jax.photos.inputs import collect_inputs
from ruas_jax.photos.model import enhance, save_model
from ruas_jax.photos.reading import read_photo
from ruas_jax.photos.writing import write_photo


@pytest.fixture(scope="module")
def model():
  return fresh_model().with_variant("i")  # compiles faster


@pytest.fixture
def folder(tmp_path):
  return write_images(tmp_path / "in", dark_images(2))


def run(model, inputs, out, **options):
  """Written files and failures."""
  done = enhance_files(model, collect_inputs(inputs, out), **options)
  assert (done.skipped, done.warnings) == ([], [])
  return done.written, done.failures


def pixels(path):
  with Image.open(path) as image:
    return np.asarray(image)


def test_files_and_folders_become_what_the_model_makes_of_them(model, folder, tmp_path):
  odd = write_images(tmp_path / "odd", dark_images(1, height=9, width=13))
  (odd / "0.png").rename(odd / "odd.png")
  seen = []
  written, failures = run(model, [folder, odd / "odd.png"], tmp_path / "new" / "out", on_file=seen.append)
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
    run(model, [folder], tmp_path / str(strength), strength=strength)
    images[strength] = pixels(tmp_path / str(strength) / "0.png").astype(float)
  np.testing.assert_array_equal(images[0.0], pixels(folder / "0.png"))
  blend = 0.75 * images[0.0] + 0.25 * images[1.0]
  assert np.abs(images[0.25] - blend).max() <= 0.5 + 0.25 * 0.5 + 1e-6
  assert np.abs(images[0.25] - images[0.0]).max() > 2


def test_strength_zero_is_exact_at_16_bits(model, tmp_path):
  deep = np.random.default_rng(0).integers(0, 2**16, (16, 20)).astype(np.uint16)
  Image.fromarray(deep).save(tmp_path / "deep.png")
  run(model, [tmp_path / "deep.png"], tmp_path / "out", strength=0.0)
  np.testing.assert_array_equal(pixels(tmp_path / "out" / "deep.png"), deep)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("tile", [1024, 20])
def test_sixteen_bits_are_the_plain_formula(channels, tile, model, tmp_path):
  """Whole or in windows: blended, averaged where grey, rounded once; alpha stays."""
  samples = np.random.default_rng(0).integers(0, 2**14, (24, 30, channels)).astype(np.uint16)
  with open(tmp_path / "deep.png", "wb") as file:
    writer = png.Writer(30, 24, greyscale=channels <= 2, alpha=channels in (2, 4), bitdepth=16)
    writer.write(file, samples.reshape(24, -1).tolist())
  run(model, [tmp_path / "deep.png"], tmp_path / "out", strength=0.75, tile=tile)
  _, _, rows, _ = png.Reader(bytes=(tmp_path / "out" / "deep.png").read_bytes()).read()
  after = np.array([list(row) for row in rows]).reshape(samples.shape)
  colours = 1 if channels <= 2 else 3
  image = np.broadcast_to(samples[..., :colours] / np.float32(65535), (24, 30, 3))
  blend = 0.75 * np.asarray(jax.jit(enhance)(model, jnp.asarray(image))) + 0.25 * image
  expected = 65535 * (blend.mean(-1, keepdims=True) if colours == 1 else blend)
  assert np.abs(after[..., :colours] - expected).max() <= 0.51
  np.testing.assert_array_equal(after[..., colours:], samples[..., colours:])


def test_dtype_is_that_of_the_computation(model, folder, tmp_path):
  save_model(tmp_path / "model", model)
  for dtype in ("float32", "bfloat16"):
    common = ("enhance", folder, "--checkpoint", tmp_path / "model", "--out", tmp_path / dtype)
    assert ruas(*common, *([] if dtype == "float32" else ["--dtype", dtype])) == 0
  exact, coarse = (pixels(tmp_path / dtype / "1.png").astype(int) for dtype in ("float32", "bfloat16"))
  assert 0 < np.abs(exact - coarse).max() < 8


def test_an_existing_output_stays_unless_told_otherwise(model, folder, tmp_path):
  out = tmp_path / "out"
  out.mkdir()
  (out / "0.png").write_bytes(b"mine")
  written, failures = run(model, [folder], out)
  assert written == [out / "1.png"]
  assert len(failures) == 1 and str(out / "0.png") in failures[0] and "set `overwrite`" in failures[0]
  assert (out / "0.png").read_bytes() == b"mine"
  written, failures = run(model, [folder], out, overwrite=True)
  assert (len(written), failures) == (2, [])
  assert pixels(out / "0.png").shape == pixels(folder / "0.png").shape


def test_a_truncated_image_is_named_and_the_others_are_enhanced(model, folder, tmp_path):
  truncate(folder / "0.png")
  written, failures = run(model, [folder], tmp_path / "out")
  assert written == [tmp_path / "out" / "1.png"] and os.listdir(tmp_path / "out") == ["1.png"]
  assert len(failures) == 1 and str(folder / "0.png") in failures[0] and "\n" not in failures[0]


def test_files_stay_in_order_whichever_fails_and_however(model, tmp_path, monkeypatch):
  """One cannot be read, one is too large, one cannot be written; later ones do not wait for them."""
  folder = write_images(tmp_path / "in", dark_images(7))
  truncate(folder / "1.png")

  def write(path, samples, photo, **options):
    if path.name == "5.png":
      raise UserError(f"{path}: no place")
    return write_photo(path, samples, photo, **options)

  def read(path):
    if path.name == "3.png":
      raise MemoryError
    return read_photo(path)

  monkeypatch.setattr(enhance_module, "write_photo", write)
  seen = []
  written, failures = run(model, [folder], tmp_path / "out", on_file=seen.append, reader=read)
  assert [path.name for path in written] == ["0.png", "2.png", "4.png", "6.png"]
  assert sorted(os.listdir(tmp_path / "out")) == ["0.png", "2.png", "4.png", "6.png"]
  for failure, name in zip(failures, ("1.png", "3.png: not enough memory", "5.png: no place"), strict=True):
    assert name in failure
  assert seen == [1, 2, 3, 4, 5, 6, 7]


def test_results_that_are_not_finite_are_not_written(model, folder, tmp_path):
  broken = dataclasses.replace(model, weights=jax.tree.map(lambda leaf: leaf * jnp.nan, model.weights))
  written, failures = run(broken, [folder / "0.png"], tmp_path / "out")
  assert (written, os.listdir(tmp_path / "out")) == ([], [])
  assert len(failures) == 1 and "out/0.png: not written" in failures[0] and "not finite" in failures[0]


def test_the_next_is_read_while_one_is_written_and_large_ones_are_alone(model, tmp_path, monkeypatch):
  folder, waiting = write_images(tmp_path / "in", dark_images(3)), 5.0
  read_names, timely = {f"{number}.png": threading.Event() for number in range(4)}, []

  def read(path):
    read_names[path.name].set()
    return read_photo(path)

  def write(path, samples, photo, **options):
    following = f"{int(path.stem) + 1}.png"
    if following != "3.png":
      timely.append(read_names[following].wait(waiting))
    return write_photo(path, samples, photo, **options)

  monkeypatch.setattr(enhance_module, "write_photo", write)
  run(model, [folder], tmp_path / "together", jobs=2, reader=read)
  assert timely == [True, True]
  timely.clear()
  for event in read_names.values():
    event.clear()
  waiting = 0.05
  monkeypatch.setattr(enhance_module, "_PIXELS_IN_FLIGHT", 1)
  run(model, [folder], tmp_path / "alone", reader=read)
  assert timely == [False, False]


def test_an_interruption_leaves_whole_files_only(model, tmp_path):
  folder = write_images(tmp_path / "in", dark_images(6))

  def read(path):
    if path.name == "4.png":
      raise KeyboardInterrupt
    return read_photo(path)

  with pytest.raises(KeyboardInterrupt):
    run(model, [folder], tmp_path / "out", jobs=2, reader=read)
  names = os.listdir(tmp_path / "out")
  assert {"0.png", "1.png"} <= set(names) <= {"0.png", "1.png", "2.png", "3.png"}
  for name in names:
    assert pixels(tmp_path / "out" / name).shape == pixels(folder / name).shape
  assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan")])
def test_a_wrong_strength_writes_nothing(strength, model, folder, tmp_path):
  with pytest.raises(UserError, match="`strength` must be between 0 and 1"):
    run(model, [folder], tmp_path / "out", strength=strength)
  assert not (tmp_path / "out").exists()


def test_what_cannot_be_read_or_written_as_a_whole(model, folder, tmp_path):
  for inputs, named in (([], "no image"), ([folder / "none.png"], "none.png"), ([folder, tmp_path / "x"], "x")):
    with pytest.raises(UserError, match=named):
      run(model, inputs, tmp_path / "out")
  assert not (tmp_path / "out").exists()
  (tmp_path / "file").write_text("")
  for out in (tmp_path / "file", tmp_path / "file" / "below"):
    with pytest.raises(UserError, match=r"`out` .*file.*cannot be written"):
      run(model, [folder], out)
