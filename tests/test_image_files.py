"""Photographs keep their form: format, grey or colour, bit depth, alpha, ICC profile go through."""

import struct

import numpy as np
import png
import pytest
import tifffile
from etils import epath
from photo_files import (
  HEIGHT,
  WIDTH,
  pass_through,
  random_samples,
  read_deep_png,
  write_deep_png,
  write_tiff,
  write_values,
)
from PIL import Image

from ruas_jax.errors import UserError
from ruas_jax.photos import writing
from ruas_jax.photos.reading import read_photo
from ruas_jax.photos.writing import write_photo


@pytest.mark.parametrize(
  "suffix, modes", [(".png", "L LA RGB RGBA"), (".tif", "L LA RGB RGBA"), (".bmp", "L RGB"), (".webp", "RGB RGBA")]
)
def test_eight_bits_go_through_without_loss(tmp_path, suffix, modes):
  for mode in modes.split():
    source = tmp_path / f"{mode}{suffix}"
    samples = random_samples(len(mode), 8)
    if mode in ("LA", "RGBA"):
      samples[:2, :, -1] = 0  # colours under full transparency stay too
    Image.fromarray(samples).save(source, **({"lossless": True, "exact": True} if suffix == ".webp" else {}))
    photo, output = pass_through(source)
    values = photo.values()
    assert values.dtype == np.float32 and values.shape == (HEIGHT, WIDTH, 3)
    colours = samples[..., : photo.colours] if samples.ndim == 3 else samples[..., None]
    np.testing.assert_array_equal(values, np.broadcast_to(colours / np.float32(255), values.shape))
    np.testing.assert_array_equal(photo.values(slice(1, 4), slice(2, 3)), values[1:4, 2:3])
    with Image.open(source) as before, Image.open(output) as after:
      assert (after.format, after.mode) == (before.format, mode)
      np.testing.assert_array_equal(np.asarray(after), np.asarray(before))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("interlace", [False, True])
def test_sixteen_bit_png_keeps_every_level(tmp_path, channels, interlace):
  samples = random_samples(channels, 16)
  write_deep_png(tmp_path / "deep.png", samples, interlace=interlace)
  photo, output = pass_through(tmp_path / "deep.png")
  assert photo.samples.dtype == np.uint16 and photo.colours == (1 if channels <= 2 else 3)
  np.testing.assert_array_equal(read_deep_png(output), samples)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"compression": "zlib"}], ids=str)
def test_sixteen_bit_tiff_keeps_every_level(tmp_path, channels, options):
  samples = random_samples(channels, 16)
  write_tiff(tmp_path / "deep.tif", samples, **options)
  photo, output = pass_through(tmp_path / "deep.tif")
  assert photo.samples.dtype == np.uint16 and photo.colours == (1 if channels <= 2 else 3)
  np.testing.assert_array_equal(tifffile.imread(output), samples)


def test_sixteen_bit_tiff_in_planes_keeps_every_level(tmp_path):
  samples = random_samples(3, 16)
  planes = np.moveaxis(samples, -1, 0)
  tifffile.imwrite(tmp_path / "planes.tif", planes, photometric="rgb", planarconfig="separate")
  _, output = pass_through(tmp_path / "planes.tif")
  np.testing.assert_array_equal(tifffile.imread(output), samples)


def test_values_between_levels_are_rounded_once_and_clipped(tmp_path):
  write_deep_png(tmp_path / "deep.png", random_samples(3, 16))
  photo = read_photo(tmp_path / "deep.png")
  enhanced = np.full_like(photo.values(), 0.5)
  enhanced[0, 0] = (-1.0, 100.6 / 65535, 2.0)
  write_values(tmp_path / "out.png", enhanced, photo)
  written = read_deep_png(tmp_path / "out.png")
  assert written[0, 0].tolist() == [0, 101, 65535] and written[1, 1].tolist() == [32768] * 3
  write_values(tmp_path / "half.png", np.ones_like(photo.values(), np.float16), photo)
  assert (read_deep_png(tmp_path / "half.png") == 65535).all()


def test_grey_output_is_the_mean_of_the_channels(tmp_path):
  Image.fromarray(random_samples(1, 8)).save(tmp_path / "grey.png")
  photo = read_photo(tmp_path / "grey.png")
  np.testing.assert_array_equal(photo.values()[..., 0], photo.values()[..., 2])
  enhanced = np.broadcast_to(np.float32([10, 20, 60]) / 255, (HEIGHT, WIDTH, 3))
  write_values(tmp_path / "out.png", enhanced, photo)
  with Image.open(tmp_path / "out.png") as image:
    assert image.mode == "L" and image.getextrema() == (30, 30)


def test_palettes_and_transparent_colours_become_channels(tmp_path):
  indices = Image.fromarray(random_samples(1, 8) % 4)  # a palette makes it an indexed picture
  indices.putpalette([10, 20, 30, 200, 100, 0, 7, 8, 9, 255, 255, 255])
  indices.save(tmp_path / "opaque.png")
  indices.save(tmp_path / "transparent.png", transparency=bytes([0, 128]))
  colour = Image.fromarray(random_samples(3, 8))
  colour.save(tmp_path / "key.png", transparency=colour.getpixel((4, 3)))
  deep = random_samples(3, 16)
  write_deep_png(tmp_path / "deep_key.png", deep, transparent=tuple(deep[3, 4].tolist()))
  levels = (deep[..., 0] % 4).astype(np.uint8)
  with open(tmp_path / "grey_key.png", "wb") as file:
    png.Writer(WIDTH, HEIGHT, greyscale=True, bitdepth=2, transparent=1).write(file, levels.tolist())
  photo, output = pass_through(tmp_path / "grey_key.png")
  with Image.open(output) as image:
    np.testing.assert_array_equal(np.asarray(image), np.dstack([levels * 85, np.where(levels == 1, 0, 255)]))
  for name, mode in (("opaque", "RGB"), ("transparent", "RGBA"), ("key", "RGBA")):
    _, output = pass_through(tmp_path / f"{name}.png")
    with Image.open(tmp_path / f"{name}.png") as before, Image.open(output) as after:
      assert after.mode == mode
      np.testing.assert_array_equal(np.asarray(after), np.asarray(before.convert(mode)))
  photo, output = pass_through(tmp_path / "deep_key.png")
  expected = np.full((HEIGHT, WIDTH), 65535)
  expected[3, 4] = 0
  np.testing.assert_array_equal(photo.samples[..., 3], expected)
  np.testing.assert_array_equal(read_deep_png(output), np.dstack([deep, expected]))


def test_one_bit_pictures_become_eight_bit_grey(tmp_path):
  for suffix in (".png", ".tif", ".bmp"):
    Image.fromarray(random_samples(1, 8) > 127).save(tmp_path / f"line{suffix}")
    photo, output = pass_through(tmp_path / f"line{suffix}")
    with Image.open(output) as after:
      assert photo.colours == 1 and after.mode == "L"
      np.testing.assert_array_equal(np.asarray(after), np.where(random_samples(1, 8) > 127, 255, 0))


def test_jpeg_keeps_mode_resolution_and_comment(tmp_path):
  ramp = np.linspace(0, 255, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8)
  for array in (ramp, np.dstack([ramp, ramp[::-1], ramp])):
    Image.fromarray(array).save(tmp_path / "photo.jpg", quality=100, dpi=(72, 72), comment=b"hello")
    _, output = pass_through(tmp_path / "photo.jpg", tmp_path / f"out{array.ndim}.jpg")
    with Image.open(output) as image:
      assert image.mode == ("L" if array.ndim == 2 else "RGB")
      assert image.info["dpi"] == (72, 72) and image.info["comment"] == b"hello"


def test_the_main_picture_of_a_multi_picture_jpeg_is_kept(tmp_path):
  main, other = (Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ("red", "blue"))
  main.save(tmp_path / "pair.mpo", save_all=True, append_images=[other])
  (tmp_path / "pair.mpo").rename(tmp_path / "pair.jpg")
  photo, output = pass_through(tmp_path / "pair.jpg")
  assert photo.values()[0, 0, 0] > 0.9 and "only the main picture" in photo.warnings[0]
  with Image.open(output) as image:
    assert image.format == "JPEG"


def test_pictures_that_cannot_be_kept_are_refused_by_name(tmp_path):
  pages = [Image.new("L", (WIDTH, HEIGHT), level) for level in (0, 255)]
  for suffix in (".png", ".webp", ".tif"):
    pages[0].save(tmp_path / f"frames{suffix}", save_all=True, append_images=pages[1:])
  tifffile.imwrite(tmp_path / "float.tif", np.zeros((HEIGHT, WIDTH, 3), np.float32), photometric="rgb")
  tifffile.imwrite(tmp_path / "signed.tif", np.zeros((HEIGHT, WIDTH), np.int16))
  pages[0].save(tmp_path / "other.gif")
  (tmp_path / "other.gif").rename(tmp_path / "other.png")
  bitfields = struct.pack(
    "<2sIHHIIiiHHIIiiIIIIII",
    b"BM",
    126,
    0,
    0,
    122,
    108,
    1,
    1,
    1,
    32,
    3,
    4,
    0,
    0,
    0,
    0,
    0xFF0000,
    0xFF00,
    0xFF,
    0xFF000000,
  )
  (tmp_path / "alpha.bmp").write_bytes(bitfields.ljust(122, b"\0") + bytes(4))
  (tmp_path / "text.jpg").write_text("no picture")
  (tmp_path / "empty.jpg").write_bytes(b"")
  refused = sorted(tmp_path.iterdir())
  assert len(refused) == 9
  for path in [*refused, tmp_path / "missing.png"]:
    with pytest.raises(UserError, match=path.name) as caught:
      read_photo(path)
    assert "\n" not in str(caught.value)


def test_sixteen_bit_tiff_of_other_kinds_is_refused(tmp_path):
  path = tmp_path / "deep.tif"
  for channels, options, message in (
    (1, {"photometric": "miniswhite"}, "MINISWHITE"),
    (4, {"photometric": "rgb", "extrasamples": ["assocalpha"]}, "premultiplied"),
    (4, {"photometric": "minisblack", "planarconfig": "contig"}, "4 channels"),
    (1, {"photometric": "minisblack", "bigtiff": True}, "BigTIFF"),
  ):
    tifffile.imwrite(path, random_samples(channels, 16), **options)
    with pytest.raises(UserError, match=message):
      read_photo(path)


@pytest.mark.parametrize("name", ["a.png", "deep.png", "a.jpg", "a.webp", "a.tif", "deep.tif", "a.bmp"])
def test_truncated_files_are_refused_by_name(tmp_path, name):
  samples = np.random.default_rng(0).integers(0, 65536, (64, 64, 3)).astype(np.uint16)
  path = tmp_path / name
  if name == "deep.png":
    with open(path, "wb") as file:
      png.Writer(64, 64, greyscale=False, bitdepth=16).write(file, samples.reshape(64, -1).tolist())
  elif name == "deep.tif":
    write_tiff(path, samples)
  else:
    Image.fromarray((samples >> 8).astype(np.uint8)).save(path)
  whole = path.read_bytes()
  for length in (20, len(whole) // 2, len(whole) - 100):
    path.write_bytes(whole[:length])
    with pytest.raises(UserError, match=name):
      read_photo(path)


def test_a_damaged_png_is_refused(tmp_path):
  Image.fromarray(random_samples(3, 8)).save(tmp_path / "a.png")
  data = bytearray((tmp_path / "a.png").read_bytes())
  data[-20] ^= 1  # inside the pixels: only the checksum can tell
  (tmp_path / "a.png").write_bytes(data)
  with pytest.raises(UserError, match=r"a\.png"):
    read_photo(tmp_path / "a.png")


def test_outputs_are_protected(tmp_path):
  source = tmp_path / "a.png"
  Image.fromarray(random_samples(3, 8)).save(source)
  before = source.read_bytes()
  photo, output = pass_through(source)
  first = output.read_bytes()
  with pytest.raises(UserError, match="exists already"):
    write_photo(output, photo.samples * 0, photo)
  assert output.read_bytes() == first
  write_photo(output, photo.samples * 0, photo, overwrite=True)
  assert output.read_bytes() != first
  with pytest.raises(UserError, match="replace the input"):
    write_photo(tmp_path / "out" / ".." / "a.png", photo.samples, photo, overwrite=True)
  assert source.read_bytes() == before
  with pytest.raises(UserError, match=r"must end in \.png"):
    write_photo(tmp_path / "out.jpg", photo.samples, photo)
  for wrong in (photo.samples[1:], photo.values()):
    with pytest.raises(ValueError, match="cannot be written as uint8"):
      write_photo(tmp_path / "small.png", wrong, photo)


def test_nothing_is_left_behind_by_a_failed_write(tmp_path, monkeypatch):
  source = tmp_path / "a.png"
  Image.fromarray(random_samples(3, 8)).save(source)
  photo = read_photo(source)

  def fail(*arguments):
    raise OSError(28, "No space left on device")

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(writing, "_encode", fail)
    with pytest.raises(UserError, match=r"out\.png: cannot be written \(.*No space left"):
      write_photo(tmp_path / "out.png", photo.samples, photo)

  monkeypatch.setattr(type(epath.Path(tmp_path)), "replace", fail)
  with pytest.raises(UserError, match=r"out\.png: cannot be written \(No space left"):
    write_photo(tmp_path / "out.png", photo.samples, photo)
  assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
  with pytest.raises(UserError, match="cannot be written"):
    write_photo(source / "out.png", photo.samples, photo)  # a file where a folder is needed
