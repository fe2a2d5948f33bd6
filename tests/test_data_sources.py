"""Sources: what is listed, how files become RGB uint8, how pairs match, how splits fall, what bad input says."""

import io
import struct
import zlib

import numpy as np
import png
import pytest
import tifffile
from PIL import Image

from ruas_jax.data.decoding import read_image
from ruas_jax.data.formats import FORMATS
from ruas_jax.data.opening import open_pairs, open_source, split_fivek
from ruas_jax.data.sources import (
  ImageArrays,
  ImageFolder,
  PairFolders,
  Pairs,
  Subset,
  list_images,
  split_in_half,
  split_pairs,
)
from ruas_jax.errors import UserError


def picture(height=12, width=20, *, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(path, pixels=None, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(picture() if pixels is None else pixels).save(path, **options)
  return path


def memory_source(count):
  return ImageArrays([f"image-{i}" for i in range(count)], [np.zeros((4, 6, 3), np.uint8)] * count)


def exif_with_orientation(orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  return exif


def test_list_images_sorts_and_leaves_out_what_is_no_image(tmp_path):
  for name in ("b.png", "a.JPG", "c.tiff", "d.jfif", "e.JPE", ".hidden.png", "f.gif", "notes.txt"):
    (tmp_path / name).write_bytes(b"")
  write(tmp_path / "below" / "d.png")
  (tmp_path / "folder.png").mkdir()
  assert [path.name for path in list_images(tmp_path)] == ["a.JPG", "b.png", "c.tiff", "d.jfif", "e.JPE"]


def test_list_images_says_what_is_wrong_with_the_folder(tmp_path):
  (tmp_path / "file").write_text("")
  (tmp_path / "empty").mkdir()
  for name, line in (("missing", "does not exist"), ("file", "is not a folder"), ("empty", "holds no image")):
    with pytest.raises(UserError, match=f"{name} {line}"):
      list_images(tmp_path / name)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's own word on a cut TIFF, before it fails
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_suffix_is_read_and_its_truncated_file_is_named(tmp_path, suffix):
  pixels = np.kron(picture(3, 5), np.ones((16, 16, 1), np.uint8))  # large, flat squares survive lossy formats
  path = write(tmp_path / f"whole{suffix}", pixels, **({"quality": 100} if FORMATS[suffix] == "JPEG" else {}))
  source = ImageFolder(tmp_path)
  assert source.sizes() == [(48, 80)]
  assert source[0].shape == (48, 80, 3) and source[0].dtype == np.uint8
  tolerance = 60 if FORMATS[suffix] in ("JPEG", "WebP") else 0  # colour is halved in resolution there
  assert np.abs(source[0].astype(int) - pixels).mean() <= tolerance / 6

  content = path.read_bytes()
  for kept in (0, 10, len(content) // 3, len(content) // 2):
    broken = tmp_path / f"broken{suffix}"
    broken.write_bytes(content[:kept])
    with pytest.raises(UserError, match=rf"cannot read image .*broken\{suffix}: damaged"):
      read_image(broken)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("block", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\0\0\0"], ids=["no header", "no directory"])
def test_damaged_exif_does_not_stop_an_image(tmp_path, suffix, block):
  path = write(tmp_path / f"a{suffix}", exif=block)
  assert read_image(path).shape == (12, 20, 3) and ImageFolder(tmp_path).sizes() == [(12, 20)]


def test_a_damaged_header_is_named_by_sizes(tmp_path):
  (tmp_path / "broken.png").write_bytes(b"no image at all")
  with pytest.raises(UserError, match=r"broken\.png"):
    ImageFolder(tmp_path).sizes()


def test_a_file_that_vanished_is_named(tmp_path):
  with pytest.raises(UserError, match=r"gone\.png: No such file"):
    read_image(tmp_path / "gone.png")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_exif_orientation_turns_image_and_size(tmp_path, orientation, suffix):
  pixels = np.zeros((16, 32, 3), np.uint8)
  pixels[:8, :16] = 255  # the top left quarter is white
  write(tmp_path / f"turned{suffix}", pixels, exif=exif_with_orientation(orientation))
  source = ImageFolder(tmp_path)
  expected_size = (16, 32) if orientation <= 4 else (32, 16)
  assert source.sizes() == [expected_size] and source[0].shape[:2] == expected_size
  grey = source[0].mean(axis=-1)
  half_height, half_width = grey.shape[0] // 2, grey.shape[1] // 2
  quarters = [grey[:half_height, :half_width], grey[:half_height, half_width:]]
  quarters += [grey[half_height:, :half_width], grey[half_height:, half_width:]]
  # Where the stored top left corner belongs, from the table of the EXIF standard.
  white = {1: 0, 2: 1, 3: 3, 4: 2, 5: 0, 6: 1, 7: 3, 8: 2}[orientation]
  assert np.argmax([quarter.mean() for quarter in quarters]) == white


def test_exif_behind_the_pixels_of_a_png_leaves_size_and_image_consistent(tmp_path):
  file = io.BytesIO()
  Image.fromarray(picture()).save(file, "PNG")
  body = exif_with_orientation(6).tobytes().removeprefix(b"Exif\0\0")
  chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
  end = file.getvalue()[-12:]
  assert end[4:8] == b"IEND"
  (tmp_path / "late.png").write_bytes(file.getvalue()[:-12] + chunk + end)
  source = ImageFolder(tmp_path)
  assert source[0].shape[:2] == source.sizes()[0]


@pytest.mark.parametrize(
  ("mode", "suffix", "pixel", "expected"),
  [
    ("L", ".png", 90, (90, 90, 90)),
    ("1", ".png", 1, (255, 255, 255)),
    ("LA", ".png", (90, 10), (90, 90, 90)),
    ("RGBA", ".png", (10, 20, 30, 0), (10, 20, 30)),
    ("RGBA", ".tif", (10, 20, 30, 0), (10, 20, 30)),
    ("CMYK", ".tif", (0, 255, 255, 0), (255, 0, 0)),
  ],
)
def test_every_mode_becomes_rgb(tmp_path, mode, suffix, pixel, expected):
  Image.new(mode, (3, 2), pixel).save(tmp_path / f"image{suffix}")
  assert np.array_equal(read_image(tmp_path / f"image{suffix}"), np.full((2, 3, 3), expected, np.uint8))


def test_palette_with_transparency_becomes_rgb(tmp_path):
  image = Image.new("P", (3, 2), 1)
  image.putpalette([0, 0, 0, 10, 20, 30])
  image.save(tmp_path / "palette.png", transparency=b"\x80\x80")
  assert np.array_equal(read_image(tmp_path / "palette.png"), np.full((2, 3, 3), (10, 20, 30), np.uint8))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
  ramp = np.array([[0, 257, 300, 32896, 65535]], np.uint16)
  expected = np.array([0, 1, 1, 128, 255])
  Image.fromarray(ramp).save(tmp_path / "grey.png")
  Image.fromarray(ramp).save(tmp_path / "grey.tif")
  tifffile.imwrite(tmp_path / "colour.tif", np.repeat(ramp[..., None], 3, -1), photometric="rgb")
  with (tmp_path / "colour.png").open("wb") as file:
    png.Writer(5, 1, bitdepth=16, greyscale=False).write(file, [np.repeat(ramp[0], 3).tolist()])
  for path in list_images(tmp_path):
    image = read_image(path)
    assert image.shape == (1, 5, 3) and np.array_equal(image[0], np.repeat(expected[:, None], 3, -1)), path.name


def test_thirty_two_bits_are_refused(tmp_path):
  Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "float.tif")
  with pytest.raises(UserError, match=r"float\.tif: samples of 32 bits"):
    read_image(tmp_path / "float.tif")


def test_sizes_decode_no_pixels(tmp_path):
  path = write(tmp_path / "cut.png", picture(40, 50))
  path.write_bytes(path.read_bytes()[:200])
  assert ImageFolder(tmp_path).sizes() == [(40, 50)]


def test_a_source_is_a_sequence(tmp_path):
  for name in ("a.png", "b.png"):
    write(tmp_path / name)
  source = ImageFolder(tmp_path)
  assert len(source) == 2 and len(list(source)) == 2 and source.names == ["a.png", "b.png"]
  assert np.array_equal(source[-1], source[1])
  with pytest.raises(IndexError):
    source[2]


def test_subset_keeps_order_names_and_sizes():
  images = [np.full((i + 1, 2, 3), i, np.uint8) for i in range(4)]
  subset = Subset(ImageArrays("abcd", images), [3, 1])
  assert subset.names == ["d", "b"] and subset.sizes() == [(4, 2), (2, 2)]
  assert [image[0, 0, 0] for image in subset] == [3, 1]


@pytest.mark.parametrize("count", [2, 7, 10])
def test_halves_share_no_image_and_lose_none(count):
  train, validation = split_in_half(memory_source(count), seed=3)
  assert len(train) - len(validation) == count % 2
  assert sorted(train.names + validation.names) == memory_source(count).names


def test_halves_follow_the_seed():
  halves = [tuple(split_in_half(memory_source(20), seed=seed)[0].names) for seed in (0, 0, 1)]
  assert halves[0] == halves[1] != halves[2]


def test_one_image_cannot_be_halved():
  with pytest.raises(UserError, match="one element cannot be split"):
    split_in_half(memory_source(1), seed=0)


def test_split_pairs_is_disjoint_sorted_and_pinned():
  train, test = split_pairs(789, (689, 100), seed=0)
  assert (len(train), len(test)) == (689, 100)
  assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(789))
  assert np.all(np.diff(test) > 0)
  # A recorded split: a library that changes its random numbers would quietly change every figure on it.
  assert [part.tolist() for part in split_pairs(10, (5, 3), seed=0)] == [[2, 3, 4, 6, 7], [0, 5, 9]]


def test_split_pairs_refuses_more_than_there_is():
  with pytest.raises(UserError, match="500 \\+ 100 needs 600 images, but there are 599"):
    split_pairs(599, (500, 100), seed=0)


def test_fivek_split_has_the_papers_counts():
  source = memory_source(700)
  train, test = split_fivek(Pairs(source, source))
  assert (len(train), len(test)) == (500, 100)
  assert not set(train.names) & set(test.names)


def test_pair_folders_match_by_stem(tmp_path):
  for name, seed in (("b", 1), ("a", 2)):
    write(tmp_path / "low" / f"{name}.png", picture(seed=seed))
    write(tmp_path / "high" / f"{name}.bmp", picture(seed=10 + seed))
  write(tmp_path / "high" / "a.bmp", picture(seed=12))
  pairs = PairFolders(tmp_path / "low", tmp_path / "high")
  assert pairs.names == ["a", "b"] and len(pairs) == 2 and pairs.low.names == ["a.png", "b.png"]
  for (low, high), seed in zip(pairs, (2, 1), strict=True):
    assert np.array_equal(low, picture(seed=seed)) and np.array_equal(high, picture(seed=10 + seed))
  assert pairs.subset([1]).names == ["b"] and np.array_equal(pairs.subset([1])[0][1], picture(seed=11))


def test_pair_folders_match_when_their_sorted_orders_differ(tmp_path):
  for stem, suffix, seed in (("a", ".PNG", 1), ("a.b", ".bmp", 2)):
    write(tmp_path / "low" / f"{stem}.png", picture(seed=seed))
    write(tmp_path / "high" / f"{stem}{suffix}", picture(seed=seed))
  assert [path.stem for path in list_images(tmp_path / "low")] == ["a.b", "a"]
  assert [path.stem for path in list_images(tmp_path / "high")] == ["a", "a.b"]
  for low, high in PairFolders(tmp_path / "low", tmp_path / "high"):
    assert np.array_equal(low, high)


@pytest.mark.parametrize("lonely", ["low", "high"])
def test_a_file_without_partner_is_named(tmp_path, lonely):
  for folder in ("low", "high"):
    write(tmp_path / folder / "both.png")
  write(tmp_path / lonely / "single.png")
  with pytest.raises(UserError, match=rf"{lonely}/single\.png has no partner named single\.\* in .*"):
    PairFolders(tmp_path / "low", tmp_path / "high")


def test_a_pair_that_differs_in_size_is_named(tmp_path):
  write(tmp_path / "low" / "x.png", picture(4, 6))
  write(tmp_path / "high" / "x.png", picture(4, 8))
  with pytest.raises(UserError, match="pair x: low is 6x4 but high is 8x4"):
    PairFolders(tmp_path / "low", tmp_path / "high")


def test_two_files_with_one_stem_are_named(tmp_path):
  for name in ("x.png", "x.bmp"):
    write(tmp_path / "low" / name)
  write(tmp_path / "high" / "x.png")
  with pytest.raises(UserError, match=r"x\.bmp and x\.png differ only in the extension"):
    PairFolders(tmp_path / "low", tmp_path / "high")


def test_pairs_refuse_sources_of_different_length():
  with pytest.raises(UserError, match="3 low-light images cannot pair with 2"):
    Pairs(memory_source(3), memory_source(2))


def test_specs_of_folders(tmp_path):
  for folder in ("low", "high"):
    write(tmp_path / folder / "x.png")
  assert open_source(tmp_path / "low").names == ["x.png"]
  assert open_pairs(str(tmp_path)).names == ["x"]
  with pytest.raises(UserError, match="missing/low does not exist"):
    open_pairs(tmp_path / "missing")


def test_specs_of_fivek(tmp_path):
  with pytest.raises(UserError, match="fivek:train:FOLDER"):
    open_pairs("fivek:validation:somewhere")
  for folder in ("low", "high"):
    write(tmp_path / folder / "x.png")
  with pytest.raises(UserError, match="needs 600 images, but there are 1"):
    open_pairs(f"fivek:train:{tmp_path}")
  for number in range(599):
    for folder in ("low", "high"):
      write(tmp_path / folder / f"{number}.bmp", np.zeros((1, 1, 3), np.uint8))
  train, test = (open_pairs(f"fivek:{part}:{tmp_path}") for part in ("train", "test"))
  assert (len(train), len(test)) == (500, 100) and not set(train.names) & set(test.names)
  assert len(open_source(f"fivek:test:{tmp_path}")) == 100
