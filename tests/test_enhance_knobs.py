"""Strength, noise removal, white balance and exposure are exact at their neutral values; previews show both halves."""

import dataclasses

import numpy as np
import pytest
from photo_files import write_deep_png
from PIL import Image
from tiny_problem import NETWORK, dark_images, fresh_model, ruas, truncate, write_images

from ruas_jax.errors import UserError
from ruas_jax.lowlight.network import build_network
from ruas_jax.photos.enhance import enhance_files
from ruas_jax.photos.enhancer import Enhancer
from ruas_jax.photos.inputs import collect_inputs
from ruas_jax.photos.knobs import expose
from ruas_jax.photos.model import save_model
from ruas_jax.photos.previews import write_picture
from ruas_jax.photos.white_balance import colour_gains


@pytest.fixture(scope="module")
def model():
  """One stage of each module, which compiles soonest, with both results."""
  one = {name: dataclasses.replace(getattr(NETWORK, name), stages=1) for name in ("illumination", "denoising")}
  options = dataclasses.replace(NETWORK, **one)
  whole = fresh_model()
  shapes = build_network(options, whole.genotype).weight_shapes()
  rng = np.random.default_rng(0)

  def random(tree):
    if isinstance(tree, dict):
      return {name: random(part) for name, part in tree.items()}
    if isinstance(tree, (list, tuple)):
      return type(tree)(random(part) for part in tree)
    return rng.normal(0, 0.1, tree.shape).astype(np.float32)

  return dataclasses.replace(whole, weights=random(shapes), options=options).with_variant("i+n")


@pytest.fixture
def folder(tmp_path):
  return write_images(tmp_path / "in", dark_images(2))


def run(model, folder, out, picture="result", **options):
  done = enhance_files(model, collect_inputs([folder], out, picture=picture), **options)
  assert done.failures == []
  return [path.read_bytes() for path in dict.fromkeys(done.written)]


def test_noise_removal_is_exact_at_both_ends_and_blends_between(model, folder, tmp_path):
  results = {value: run(model, folder, tmp_path / f"{value}", denoise=value) for value in (None, 0, 1)}
  assert results[None] == results[1] != results[0]
  assert results[0] == run(model.with_variant("i"), folder, tmp_path / "i")
  image = dark_images(1, height=60, width=50)[0] / np.float32(255)
  without, whole = (Enhancer(model, denoise=value)(image) for value in (0, 1))
  for tile in (512, 24):
    blended = Enhancer(model, denoise=0.25, tile=tile)(image)
    assert np.abs(blended - (0.25 * whole + 0.75 * without)).max() < 1e-5 < np.abs(whole - without).max() / 10


def test_exposure_is_exact_at_zero_and_multiplies_light(model, folder, tmp_path):
  model = model.with_variant("i")
  assert run(model, folder, tmp_path / "none") == run(model, folder, tmp_path / "zero", exposure=0.0)
  values = np.linspace(0, 1, 1001, dtype=np.float32)
  assert expose(values, 0.0) is values
  light = lambda v: np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
  for stops in (-3, -0.5, 1, 2.5):
    np.testing.assert_allclose(light(expose(values, stops)), np.minimum(light(values) * 2.0**stops, 1), atol=2e-6)
  np.testing.assert_allclose(expose(expose(values, -2), 2), values, atol=1e-5)
  run(model, folder, tmp_path / "brighter", strength=0, exposure=1)  # added to the blend, so to the photograph here
  with Image.open(tmp_path / "brighter" / "0.png") as image:
    expected = np.rint(255 * expose(dark_images(2)[0] / np.float32(255), 1))
    np.testing.assert_array_equal(np.asarray(image), expected)


def test_the_white_balance_takes_a_cast_away(model, folder, tmp_path):
  rng = np.random.default_rng(0)
  grey = rng.uniform(0.05, 0.5, (40, 50, 1)).repeat(3, axis=-1).astype(np.float32)
  stops = np.array([0.3, 0, -0.3], np.float32)
  cast = expose(grey, 0, 2.0**stops)
  np.testing.assert_allclose(colour_gains(grey, 1.0), 1, atol=1e-6)
  np.testing.assert_allclose(expose(cast, 0, colour_gains(cast, 1.0)), grey, atol=1e-5)
  np.testing.assert_allclose(colour_gains(cast, 0.5), 2.0 ** (-stops / 2), rtol=1e-5)
  strong = colour_gains(expose(grey, 0, np.float32([4, 1, 1 / 4])), 1.0)
  np.testing.assert_allclose(np.log2(strong), [-0.5, 0, 0.5], atol=1e-5)  # and no more
  lamp = np.concatenate([cast, np.ones_like(cast)])  # clipped pixels say nothing
  np.testing.assert_allclose(colour_gains(lamp, 1.0), colour_gains(cast, 1.0), rtol=1e-6)
  np.testing.assert_array_equal(colour_gains(grey * np.float32([1, 1, 0]), 1.0), 1)

  model = model.with_variant("i")
  assert run(model, folder, tmp_path / "none") == run(model, folder, tmp_path / "zero", white_balance=0.0)
  run(model, folder, tmp_path / "balanced", strength=0, white_balance=1)
  photo = dark_images(2)[0] / np.float32(255)
  with Image.open(tmp_path / "balanced" / "0.png") as image:
    np.testing.assert_array_equal(image, np.rint(255 * expose(photo, 0, colour_gains(photo, 1.0))))


@pytest.mark.parametrize(
  "option, value, message",
  [
    ("denoise", -0.1, "`denoise` must be between 0 and 1, not -0.1"),
    ("denoise", float("nan"), "`denoise` must be between 0 and 1"),
    ("white_balance", 1.5, "`white_balance` must be between 0 and 1, not 1.5"),
    ("exposure", 11, "`exposure` must be between -10 and 10 stops, not 11"),
    ("exposure", float("inf"), "`exposure` must be"),
    ("jobs", 0, "`jobs` must be at least 1, not 0"),
  ],
)
def test_wrong_values_write_nothing(model, folder, tmp_path, option, value, message):
  with pytest.raises(UserError, match=message):
    run(model, folder, tmp_path / "out", **{option: value})
  assert not (tmp_path / "out").exists()


def test_any_number_of_jobs_gives_the_same_files_in_order(model, tmp_path):
  folder = write_images(tmp_path / "in", dark_images(5))
  model, seen = model.with_variant("i"), []
  one = run(model, folder, tmp_path / "one", jobs=1, on_file=seen.append)
  assert one == run(model, folder, tmp_path / "many", jobs=7) and seen == [1, 2, 3, 4, 5]


def test_a_preview_is_the_photograph_on_the_left_and_the_result_on_the_right(model, folder, tmp_path):
  model = model.with_variant("i")
  run(model, folder, tmp_path / "results")
  options = {"picture": "preview", "format": "PNG"}
  done = enhance_files(model, collect_inputs([folder], tmp_path / "look", **options))
  assert [path.name for path in done.written] == ["0_preview.png", "1_preview.png"]
  pictures = [folder / "0.png", tmp_path / "results" / "0.png", done.written[0]]
  before, after, split = (np.asarray(Image.open(path)).astype(int) for path in pictures)
  np.testing.assert_array_equal(split[:, :10], before[:, :10])
  np.testing.assert_array_equal(split[:, 11:], after[:, 11:])
  assert (split[:, 10] == 255).all()  # the line between


def test_previews_are_small_and_of_eight_bits_whatever_the_photograph(model, tmp_path):
  write_deep_png(tmp_path / "deep.png", np.random.default_rng(0).integers(0, 2**14, (6, 9, 4)).astype(np.uint16))
  Image.fromarray(dark_images(1, height=30, width=2500)[0]).save(tmp_path / "wide.png")
  model = model.with_variant("i")
  done = enhance_files(model, collect_inputs([tmp_path], tmp_path / "look", picture="preview"))
  sizes = {}
  for path in done.written:
    with Image.open(path) as image:
      assert (image.format, image.mode) == ("JPEG", "RGB")
      sizes[path.name] = image.size
  assert sizes == {"deep_preview.jpg": (9, 6), "wide_preview.jpg": (2000, 24)} and done.warnings == []


def test_a_contact_sheet_shows_every_photograph_in_order(model, tmp_path):
  folder = write_images(tmp_path / "in", [np.full((90, 120, 3), level, np.uint8) for level in (10, 30, 50, 70, 90)])
  truncate(folder / "3.png")
  inputs = collect_inputs([folder], tmp_path / "all.png", picture="sheet")
  done = enhance_files(model.with_variant("i"), inputs)
  assert len(done.written) == 4 and len(done.failures) == 1
  sheet = np.asarray(Image.open(tmp_path / "all.png"))
  centres = [(row + 192, column + 222) for row in (0, 396) for column in (0, 492)]  # left halves of the cells
  assert [sheet[centre].tolist() for centre in centres] == [[level] * 3 for level in (10, 30, 50, 90)]
  with pytest.raises(UserError, match=r"all\.png exists already; choose another `out`, or set `overwrite`"):
    enhance_files(model, inputs)


def test_a_picture_that_its_format_cannot_hold_is_one_line(tmp_path):
  with pytest.raises(UserError, match=r"sheet\.webp: cannot be written \("):
    write_picture(tmp_path / "sheet.webp", Image.new("RGB", (16_384, 1)), "WebP", None)
  assert not list(tmp_path.iterdir())


def test_a_contact_sheet_replaces_no_photograph(model, folder):
  before = (folder / "1.png").read_bytes()
  with pytest.raises(UserError, match=r"1\.png: the output would replace the input"):
    enhance_files(model, collect_inputs([folder], folder / "1.png", picture="sheet"), overwrite=True)
  assert (folder / "1.png").read_bytes() == before


@pytest.mark.parametrize(
  "options, said",
  [
    (["--preview"], "2 previewed in look"),
    (["--contact-sheet"], "2 previewed as look/contact_sheet.jpg"),
    (["--format", "webp", "--quality", "50", "--exposure", "0.5", "--jobs", "1"], "2 enhanced in look"),
  ],
)
def test_the_command(model, folder, tmp_path, monkeypatch, capfd, options, said):
  monkeypatch.chdir(tmp_path)
  save_model("model", model.with_variant("i"))
  assert ruas("enhance", "in", "--out", "look", "--checkpoint", "model", *options) == 0
  assert said in capfd.readouterr().out.splitlines()


def test_options_that_exclude_each_other(model, folder, capfd):
  for options in (["--preview", "--contact-sheet"], ["--denoise", "0.5", "--variant", "i"]):
    assert ruas("enhance", folder, *options) == 1
    assert "exclude each other: give only one of them" in capfd.readouterr().err
