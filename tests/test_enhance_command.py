"""`ruas enhance` as a photographer uses it: what is printed, what is written where, and in which format."""

import os

import numpy as np
import pytest
from PIL import Image
from tiny_problem import dark_images, fresh_model, ruas, truncate, write_images

from ruas_jax.data.formats import PHOTO_FORMATS, RAW_FORMATS
from ruas_jax.photos.extras import missing
from ruas_jax.photos.model import save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  folder = tmp_path_factory.mktemp("model")
  save_model(folder, fresh_model().with_variant("i"))  # compiles faster
  return folder


@pytest.fixture
def enhance(model, tmp_path, monkeypatch, capfd):
  """Runs the command in a folder of its own; returns the exit code, the lines of stdout and those of stderr."""
  monkeypatch.chdir(tmp_path)

  def run(*arguments):
    code = ruas("enhance", *arguments, "--checkpoint", model)
    output = capfd.readouterr()
    return code, [line for line in output.out.splitlines() if not line.startswith("enhance ")], output.err.splitlines()

  return run


@pytest.fixture
def photos(tmp_path):
  """Three photographs and other things beside them."""
  folder = write_images(tmp_path / "photos", dark_images(1))
  image = Image.open(folder / "0.png")
  image.save(folder / "photo.jfif", "JPEG")
  image.convert("CMYK").save(folder / "print.jpe", "JPEG")
  image.save(folder / "film.gif")
  image.save(folder / "IMG_1", "JPEG")
  (folder / "IMG_2.mpo").write_bytes(b"")
  (folder / "lost.jpg").symlink_to("nowhere")
  (folder / "notes.txt").write_text("no picture")
  write_images(folder / "older" / "2023", dark_images(1))
  return folder


def names(folder):
  return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_what_is_skipped_is_counted_and_named(enhance, photos, tmp_path):
  code, out, err = enhance("photos")
  assert code == 0
  assert out == [
    "3 enhanced in bright",
    "4 files skipped: photos/IMG_1 (JPEG without its extension: add .jpg); "
    "photos/IMG_2.mpo (MPO is not supported); photos/film.gif (GIF is not supported); "
    "photos/lost.jpg (a broken link); convert to PNG, JPEG, WebP, TIFF or BMP",
    "1 sub-folder not entered: photos/older (set --recursive to enter sub-folders)",
  ]
  assert len(err) == 1 and err[0].startswith("ruas: warning: photos/print.jpe: CMYK is written as RGB, ")
  assert names(tmp_path / "bright") == ["0.png", "photo.jfif", "print.jpe"]
  for name in ("photo.jfif", "print.jpe"):
    with Image.open(tmp_path / "bright" / name) as image:
      assert (image.format, image.mode) == ("JPEG", "RGB")


def test_recursive_keeps_the_layout(enhance, photos, tmp_path):
  code, out, _ = enhance("photos", "--recursive", "--out", "photos/bright")
  assert code == 0 and out[0] == "4 enhanced in photos/bright" and len(out) == 2
  assert names(tmp_path / "photos" / "bright") == ["0.png", "older/2023/0.png", "photo.jfif", "print.jpe"]
  code, out, err = enhance("photos", "--recursive", "--out", "photos/bright")  # what it wrote is not read
  assert code == 1 and out[0] == "0 enhanced in photos/bright, 4 failed" and len(err) == 4
  assert all("exists already; choose another --out, or set --overwrite to replace it" in line for line in err)


def test_failures_come_after_what_is_skipped(enhance, photos):
  truncate(photos / "0.png")
  code, out, err = enhance("photos")
  assert code == 1 and out[0] == "2 enhanced in bright, 1 failed" and out[1].startswith("4 files skipped: ")
  assert len(err) == 2 and "ruas: warning: " in err[0] and err[1].startswith("ruas: photos/0.png: ")


def test_broken_files_of_every_format_are_a_line_each_and_the_others_are_enhanced(enhance, tmp_path):
  folder = write_images(tmp_path / "photos", dark_images(1))
  suffixes = [".jpg", ".png", ".tif", ".webp", ".bmp", ".avif", ".heic", ".jxl", ".nef"]
  suffixes = [suffix for suffix in suffixes if not missing((PHOTO_FORMATS | RAW_FORMATS)[suffix])]
  for suffix in suffixes:
    (folder / f"empty{suffix}").write_bytes(b"")
    (folder / f"text{suffix}").write_text("no picture at all")
  code, out, err = enhance("photos")
  assert code == 1 and out == [f"1 enhanced in bright, {2 * len(suffixes)} failed"]
  assert len(err) == 2 * len(suffixes) and all(line.startswith("ruas: photos/") for line in err)
  assert names(tmp_path / "bright") == ["0.png"]


def test_warnings_of_one_text_are_one_line(enhance, photos):
  Image.open(photos / "0.png").convert("CMYK").save(photos / "second.tif")
  _, _, err = enhance("photos")
  assert len(err) == 1 and err[0].startswith("ruas: warning: photos/print.jpe, photos/second.tif: CMYK")


@pytest.mark.parametrize(
  "suffix, format", [(".png", "PNG"), (".JPG", "JPEG"), (".webp", "WEBP"), (".tif", "TIFF"), (".bmp", "BMP")]
)
def test_one_file_becomes_one_file_of_the_format_of_its_name(enhance, tmp_path, suffix, format):
  deep = np.random.default_rng(0).integers(0, 2**14, (16, 20)).astype(np.uint16)
  Image.fromarray(deep).save(tmp_path / "deep.png")
  code, out, err = enhance("deep.png", "--out", f"new/bright{suffix}", "--strength", "0")
  assert (code, out) == (0, [f"1 enhanced as new/bright{suffix}"])
  with Image.open(tmp_path / "new" / f"bright{suffix}") as image:
    assert image.format == format
    pixels = np.asarray(image)
  if format in ("PNG", "TIFF"):
    assert err == []
    np.testing.assert_array_equal(pixels, deep)
  else:
    assert len(err) == 1 and err[0] == (
      f"ruas: warning: deep.png: as {'WebP' if format == 'WEBP' else format} it loses 8 of its 16 bits per sample"
    )
    assert np.abs(pixels.astype(int).reshape(16, 20, -1)[..., 0] - np.round(deep / 257)).max() <= (
      0 if format != "JPEG" else 8
    )
  assert names(tmp_path / "new") == [f"bright{suffix}"]


def test_a_new_name_of_the_same_format_keeps_the_form(enhance, tmp_path):
  image = Image.fromarray(dark_images(1)[0])
  image.save(tmp_path / "a.jpg", quality=98, subsampling=1, comment=b"hello")
  assert enhance("a.jpg", "--out", "bright.jpeg") == (0, ["1 enhanced as bright.jpeg"], [])
  with Image.open("a.jpg") as before, Image.open("bright.jpeg") as after:
    assert after.quantization == before.quantization and after.info["comment"] == b"hello"
  code, _, err = enhance("a.jpg", "--out", "bright.jpeg")
  said = "ruas: bright.jpeg exists already; choose another --out, or set --overwrite to replace it"
  assert code == 1 and err == [said]
  assert enhance("a.jpg", "--out", "bright.jpeg", "--overwrite", "--quality", "20")[0] == 0
  with Image.open("a.jpg") as before, Image.open("bright.jpeg") as after:
    assert min(after.quantization[0]) > min(before.quantization[0])


def test_an_existing_folder_with_the_name_of_an_image_stays_a_folder(enhance, tmp_path):
  Image.fromarray(dark_images(1)[0]).save(tmp_path / "a.png")
  (tmp_path / "bright.jpg").mkdir()
  assert enhance("a.png", "--out", "bright.jpg")[:2] == (0, ["1 enhanced in bright.jpg"])
  assert os.listdir("bright.jpg") == ["a.png"]


def test_names_of_any_letters_are_printed(enhance, tmp_path):
  Image.fromarray(dark_images(1)[0]).save(tmp_path / "a.png")
  (tmp_path / "n\udcffcht\n.gif").write_bytes(b"GIF89a")
  code, out, _ = enhance(".", "--out", "hell")
  assert code == 0 and out[1].startswith("1 file skipped: n?cht?.gif (GIF")
