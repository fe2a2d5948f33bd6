"""Damaged profiles and EXIF do not stop a photograph, and are named; text of any encoding goes through as it is."""

import struct
import zlib

import numpy as np
import png
import pytest
import tifffile
from photo_files import (
  HEIGHT,
  WIDTH,
  exif_block,
  pass_through,
  profile_block,
  random_samples,
  write_deep_png,
  write_tiff,
)
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from ruas_jax.errors import UserError
from ruas_jax.photos.colour import to_rgb
from ruas_jax.photos.photo import Metadata, Photo
from ruas_jax.photos.reading import read_photo
from ruas_jax.photos.tiff_directory import ASCII, LONG, Directory, read_first
from ruas_jax.photos.tiff_files import encode_tiff

CUT_PROFILE, EMPTY_PROFILE = profile_block()[:200], profile_block()[:300]  # the second can be opened, but not used


def ink_profile():
  """A CMYK profile by which all is dark: a header of a printer, one table that gives the same LAB for every ink."""
  table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
  table += bytes(range(256)) * 4
  table += bytes([20, 128, 128]) * 2**4 + bytes(range(256)) * 3
  tags = [(b"A2B0", table), (b"wtpt", b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061))]
  position, listed, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
  for name, content in tags:
    content += bytes(-len(content) % 4)
    listed += name + struct.pack(">II", position + len(body), len(content))
    body += content
  header = bytearray(profile_block()[:128])
  header[12:24] = b"prtrCMYKLab "
  header[8:12] = b"\x02\x10\0\0"
  header[84:100] = bytes(16)
  profile = bytes(header) + listed + body
  return struct.pack(">I", len(profile)) + profile[4:]


def exif_tiff(order, text, inner):
  """A TIFF structure with text in its directory, in that of EXIF, and in that of GPS."""

  def directory(start, entries):
    table, rest = struct.pack(f"{order}H", len(entries)), b""
    for tag, kind, content in entries:
      where = start + 6 + 12 * len(entries) + len(rest)
      if isinstance(content, int):
        table += struct.pack(f"{order}HHII", tag, kind, 1, content)
      else:
        table += struct.pack(f"{order}HHII", tag, kind, len(content), where)
        rest += content
    return table + bytes(4) + rest

  exif = directory(1000, [(37510, 7, inner), (42036, 2, text)])
  gps = directory(2000, [(27, 7, inner), (29, 2, text)])
  first = directory(8, [(315, 2, text), (33432, 2, text), (34665, 4, 1000), (34853, 4, 2000), (65000, 7, inner)])
  head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
  return ((head + first).ljust(1000, b"\0") + exif).ljust(2000, b"\0") + gps


def tags_of(path):
  """The bytes of the tags of a TIFF file and of its directories of EXIF and GPS, read by Pillow without decoding."""
  with open(path, "rb") as file:
    head = file.read(8)
    found = {}

    def load(position, nested):
      directory = TiffImagePlugin.ImageFileDirectory_v2(head)
      file.seek(position)
      directory.load(file)
      for tag, content in directory._tagdata.items():
        found[nested, tag] = bytes(content)
      return directory

    first = load(struct.unpack(("<" if head[:2] == b"II" else ">") + "I", head[4:])[0], 0)
    for tag in (34665, 34853):
      if tag in first:
        load(first[tag], tag)
  return found


def write_with_tags(path, samples, directory):
  """A TIFF file that has the entries of a directory besides those that say how it is stored."""
  path.write_bytes(encode_tiff(samples, Photo(samples, path, "TIFF", Metadata(native=directory))))
  return path


def ink_picture(path, profile=None):
  Image.fromarray(random_samples(3, 8)).convert("CMYK").save(path, icc_profile=profile)
  return path


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
@pytest.mark.parametrize(
  "profile, word", [(CUT_PROFILE, "damaged"), (profile_block(), "describes RGB"), (None, "missing")]
)
def test_ink_with_no_usable_profile_is_converted_without_and_says_so(tmp_path, suffix, profile, word):
  path = ink_picture(tmp_path / f"print{suffix}", profile)
  photo, output = pass_through(path)
  with Image.open(path) as image:
    np.testing.assert_array_equal(photo.samples, np.asarray(image.convert("RGB")))
  assert len(photo.warnings) == 1 and word in photo.warnings[0] and "converted without a profile" in photo.warnings[0]
  with Image.open(output) as image:
    assert image.mode == "RGB" and "icc_profile" not in image.info


def test_ink_goes_through_its_profile(tmp_path):
  photo, output = pass_through(ink_picture(tmp_path / "print.tif", ink_profile()))
  assert photo.warnings == ("CMYK is written as RGB (sRGB)",)
  assert photo.samples.max() < 40 and np.ptp(photo.samples) <= 2  # all the same dark grey
  with Image.open(output) as image:
    assert "icc_profile" not in image.info  # it describes ink


def test_a_profile_that_only_fails_in_use_is_left_out_too(tmp_path):
  profile = bytearray(ink_profile())
  profile[156:160] = b"none"  # the kind of the table
  image = Image.fromarray(random_samples(3, 8)).convert("CMYK")
  converted, warnings = to_rgb(image, bytes(profile))
  np.testing.assert_array_equal(np.asarray(converted), np.asarray(image.convert("RGB")))
  assert "damaged" in warnings[0]


def test_lab_becomes_rgb_whatever_its_profile(tmp_path):
  rgb = Image.fromarray(np.full((HEIGHT, WIDTH, 3), (200, 90, 30), np.uint8))
  to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
  lab = ImageCms.applyTransform(rgb, to_lab)
  for profile in (None, CUT_PROFILE, profile_block()):
    lab.save(tmp_path / "lab.tif", icc_profile=profile)
    photo, output = pass_through(tmp_path / "lab.tif", tmp_path / f"{len(profile or b'')}.tif")
    assert photo.warnings == ("LAB is written as RGB (sRGB)",)
    np.testing.assert_allclose(photo.samples.astype(int), np.asarray(rgb), atol=4)
    with Image.open(output) as image:
      assert image.mode == "RGB" and "icc_profile" not in image.info


@pytest.mark.parametrize(
  "profile, word", [(CUT_PROFILE, "is damaged"), (EMPTY_PROFILE, "is damaged"), (ink_profile(), "describes CMYK")]
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", "deep.tif", "deep.png"])
def test_a_profile_that_cannot_be_used_is_left_out_with_a_warning(tmp_path, suffix, channels, profile, word):
  path = tmp_path / f"photo{suffix}"
  if suffix == "deep.tif":
    write_tiff(path, random_samples(channels, 16), iccprofile=profile, metadata=None)
  elif suffix == "deep.png":
    write_deep_png(tmp_path / "plain.png", random_samples(channels, 16))
    header, *rest = png.Reader(bytes=(tmp_path / "plain.png").read_bytes()).chunks()
    with open(path, "wb") as file:
      png.write_chunks(file, [header, (b"iCCP", b"name\0\0" + zlib.compress(profile)), *rest])
  else:
    image = Image.fromarray(random_samples(channels, 8))
    image.save(path, icc_profile=profile, **({"lossless": True} if suffix == ".webp" else {}))
  photo, output = pass_through(path)
  assert photo.warnings == (f"its ICC profile {word} and is left out",)
  with Image.open(output) as image:
    assert not image.info.get("icc_profile")


def test_a_healthy_profile_stays_whatever_it_describes(tmp_path):
  Image.fromarray(random_samples(1, 8)).save(tmp_path / "grey.png", icc_profile=profile_block())  # as converters do
  photo, output = pass_through(tmp_path / "grey.png")
  with Image.open(output) as image:
    assert photo.warnings == () and image.info["icc_profile"] == profile_block()


def test_a_profile_that_is_packed_wrongly_is_named(tmp_path):
  Image.fromarray(random_samples(3, 8)).save(tmp_path / "plain.png")
  header, *rest = png.Reader(bytes=(tmp_path / "plain.png").read_bytes()).chunks()
  with open(tmp_path / "a.png", "wb") as file:
    png.write_chunks(file, [header, (b"iCCP", b"name\0\0no zlib stream"), *rest])
  Image.fromarray(random_samples(3, 8)).save(tmp_path / "a.jpg", icc_profile=profile_block())
  data = (tmp_path / "a.jpg").read_bytes()
  (tmp_path / "a.jpg").write_bytes(data.replace(b"ICC_PROFILE\0\1\1", b"ICC_PROFILE\0\1\2"))  # one of two is missing
  for name in ("a.png", "a.jpg"):
    photo, output = pass_through(tmp_path / name)
    assert photo.warnings == ("its ICC profile is damaged and is left out",)
    with Image.open(output) as image:
      assert not image.info.get("icc_profile")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize(
  "block",
  [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\0\0\0", exif_block(6)[:-30], b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"],
  ids=range(4),
)
def test_damaged_exif_goes_through_and_is_named(tmp_path, suffix, block):
  source = tmp_path / f"photo{suffix}"
  Image.new("RGB", (WIDTH, HEIGHT)).save(source, exif=block)
  photo, output = pass_through(source)
  assert len(photo.warnings) == 1 and "EXIF" in photo.warnings[0]
  with Image.open(output) as image:
    written = image.info["exif"].removeprefix(b"Exif\0\0")
  assert len(written) == len(block.removeprefix(b"Exif\0\0"))
  if block.startswith(exif_block(6)[:40]):  # its first directory can be read
    assert photo.samples.shape == (WIDTH, HEIGHT, 3) and read_photo(output).samples.shape == (WIDTH, HEIGHT, 3)


def big_tiff_tags(*entries):
  """A TIFF file of tifffile with more tags."""
  return [(tag, kind, count, value, True) for tag, kind, count, value in entries]


def test_the_orientation_is_applied_once_whatever_else_is_damaged(tmp_path):
  """A link to EXIF's details or a number of entries that leads out of the block."""
  whole = exif_block(6)
  link = whole.index(b"\x87\x69")
  for name, where, content in (("link", link + 8, b"\xff" * 4), ("count", 14, b"\xff\xff")):
    block = whole[:where] + content + whole[where + len(content) :]
    Image.fromarray(random_samples(3, 8)).save(tmp_path / f"{name}.jpg", exif=block)
    photo, output = pass_through(tmp_path / f"{name}.jpg")
    assert photo.samples.shape == (WIDTH, HEIGHT, 3) and "EXIF" in photo.warnings[0]
    assert read_photo(output).samples.shape == (WIDTH, HEIGHT, 3)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("tag", [ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo])
def test_a_link_to_exif_that_leads_nowhere_does_not_stop_a_tiff(tmp_path, bits, tag):
  samples = random_samples(3, bits)
  for target in (3, 2**31, 0xFFFFFFFF):
    directory = Directory()
    directory.put(int(tag), LONG, target)
    directory.put_bytes(33432, ASCII, b"us\0\0\0")
    source = write_with_tags(tmp_path / f"{target}.tif", samples, directory)
    photo, output = pass_through(source)
    np.testing.assert_array_equal(photo.samples, samples)
    assert photo.warnings == ("some of its tags are damaged and left out",)
    assert tags_of(output)[0, 33432] == b"us\0\0\0"
    np.testing.assert_array_equal(tifffile.imread(output), samples)


def set_entry(data, tag, kind, count, value):
  """Overwrites the entry of a tag in the first directory of a little-endian TIFF file."""
  data = bytearray(data)
  (start,) = struct.unpack_from("<I", data, 4)
  (length,) = struct.unpack_from("<H", data, start)
  for position in range(start + 2, start + 2 + 12 * length, 12):
    if struct.unpack_from("<H", data, position)[0] == tag:
      struct.pack_into("<HHII", data, position, tag, kind, count, value)
      return bytes(data)
  raise AssertionError("no such tag")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind, count, value", [(2, 1000, 2**30), (99, 1, 0), (2, 2**32 - 1, 8), (5, 2**30, 8)])
def test_a_damaged_tag_does_not_stop_a_tiff(tmp_path, bits, kind, count, value):
  samples = random_samples(3, bits)
  write_tiff(tmp_path / "photo.tif", samples, extratags=big_tiff_tags((33432, 2, 0, "us")), metadata=None)
  (tmp_path / "photo.tif").write_bytes(set_entry((tmp_path / "photo.tif").read_bytes(), 33432, kind, count, value))
  photo, output = pass_through(tmp_path / "photo.tif")
  np.testing.assert_array_equal(photo.samples, samples)
  assert photo.warnings == ("some of its tags are damaged and left out",)
  with tifffile.TiffFile(output) as file:
    assert 33432 not in file.pages.first.tags


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "shift-jis"])
@pytest.mark.parametrize("bits", [8, 16])
def test_text_of_any_encoding_goes_through_a_tiff(tmp_path, order, encoding, bits):
  text = ("Jürgen Größe" if encoding != "shift-jis" else "夜の写真").encode(encoding) + b"\0\0"
  inner = b"UNICODE\0" + "夜".encode("utf-16-be") + b"\xff\xfe"
  block = exif_tiff(order, text, inner)
  samples = random_samples(3, bits)
  source = write_with_tags(tmp_path / "photo.tif", samples, read_first(block))
  photo, output = pass_through(source)
  assert photo.warnings == ()
  expected = {(0, 315): text, (0, 33432): text, (34665, 37510): inner, (34665, 42036): text}
  expected |= {(34853, 27): inner, (34853, 29): text, (0, 65000): inner}
  for path in (source, output):
    found = tags_of(path)
    assert {key: found[key] for key in expected} == expected
  np.testing.assert_array_equal(read_photo(output).samples, samples)


def test_values_that_overlap_take_no_more_memory_than_the_file(tmp_path):
  directory = Directory()
  for tag in range(40000, 40100):
    directory.put_bytes(tag, ASCII, bytes(10))
  source = write_with_tags(tmp_path / "a.tif", random_samples(3, 8), directory)
  data = source.read_bytes() + bytes(50_000)
  for tag in range(40000, 40100):
    data = set_entry(data, tag, ASCII, 50_000, 8)
  source.write_bytes(data)
  photo, output = pass_through(source)
  assert photo.warnings == ("some of its tags are damaged and left out",) and output.stat().st_size < len(data)


def test_directories_in_a_circle_are_one_page(tmp_path):
  source = write_with_tags(tmp_path / "a.tif", random_samples(3, 8), Directory())
  data = bytearray(source.read_bytes())
  entries = len(read_first(bytes(data)).entries)
  struct.pack_into("<I", data, 10 + 12 * entries, 8)
  source.write_bytes(data)
  photo, _ = pass_through(source)
  np.testing.assert_array_equal(photo.samples, random_samples(3, 8))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("side", [0, 2**16 - 16])
def test_tiles_of_an_impossible_size_are_refused_before_memory_is_taken(tmp_path, bits, side):
  tiff = tmp_path / "tiles.tif"
  write_tiff(tiff, random_samples(3, bits), tile=(16, 16), metadata=None)
  data = tiff.read_bytes()
  for tag in (322, 323):
    data = set_entry(data, tag, 4, 1, side)
  tiff.write_bytes(data)
  with pytest.raises(UserError, match=f"tiles of {side}x{side} pixels"):
    read_photo(tiff)


def test_an_extension_of_xmp_is_left_out_and_named(tmp_path):
  segment = b"http://ns.adobe.com/xmp/extension/\0" + bytes(40)
  extra = b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment
  Image.fromarray(random_samples(3, 8)).save(tmp_path / "a.jpg", extra=extra)
  photo, _ = pass_through(tmp_path / "a.jpg")
  assert photo.warnings == ("only the main part of its XMP is kept, not the extension",)


def test_layers_of_photoshop_are_left_out_and_named(tmp_path):
  """They would show the photograph before."""
  tags = big_tiff_tags((37724, 7, 12, b"8BIMLayr1234"))
  write_tiff(tmp_path / "photo.tif", random_samples(3, 8), extratags=tags, metadata=None)
  photo, output = pass_through(tmp_path / "photo.tif")
  assert "layers" in photo.warnings[0]
  with tifffile.TiffFile(output) as file:
    assert 37724 not in file.pages.first.tags


def test_orientation_of_a_tiff_from_xmp_alone_at_both_depths(tmp_path):
  xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
  for bits in (8, 16):
    samples = random_samples(3, bits)
    write_tiff(tmp_path / "a.tif", samples, extratags=big_tiff_tags((700, 1, len(xmp), xmp)), metadata=None)
    photo, output = pass_through(tmp_path / "a.tif", tmp_path / f"{bits}.tif")
    np.testing.assert_array_equal(photo.samples, np.rot90(samples, -1))
    assert read_photo(output).samples.shape == photo.samples.shape


def test_the_first_picture_that_is_no_preview_is_taken(tmp_path):
  preview, samples = np.zeros((2, 2, 3), np.uint8), random_samples(3, 8)
  with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
    writer.write(preview, photometric="rgb", subfiletype=1, metadata=None)
    writer.write(samples, photometric="rgb", metadata=None)
  photo, _ = pass_through(tmp_path / "a.tif")
  np.testing.assert_array_equal(photo.samples, samples)


def test_a_format_that_is_not_supported_is_named_whatever_the_extension(tmp_path):
  (tmp_path / "IMG_1.jpg").write_bytes(b"GIF89a" + bytes(100))
  with pytest.raises(UserError, match=r"IMG_1\.jpg: it holds GIF, which is not supported"):
    read_photo(tmp_path / "IMG_1.jpg")


@pytest.mark.parametrize("name", ["a.png", "deep.png", "a.jpg", "a.webp", "a.tif", "deep.tif", "a.bmp"])
def test_damage_anywhere_ends_in_a_photograph_or_in_one_line(tmp_path, name):
  """Bytes changed at random: never another exception, a warning of Python, or a line break."""
  path = tmp_path / name
  if name == "deep.png":
    write_deep_png(path, random_samples(3, 16))
  elif name == "deep.tif":
    write_tiff(path, random_samples(3, 16), compression="zlib", iccprofile=profile_block(), metadata=None)
  else:
    options = {"compression": "tiff_lzw"} if name == "a.tif" else {"exif": exif_block(6)}
    Image.fromarray(random_samples(3, 8)).save(path, icc_profile=profile_block(), **options)
  whole, rng, read = path.read_bytes(), np.random.default_rng(0), 0
  for _ in range(150):
    data = bytearray(whole)
    for position in rng.integers(0, len(data), rng.integers(1, 4)):
      data[position] = rng.integers(256)
    path.write_bytes(data)
    try:
      photo, _ = pass_through(path, tmp_path / "out" / f"{read}{path.suffix}")
      read += 1
      assert all(line and "\n" not in line for line in photo.warnings)
    except UserError as error:
      assert "\n" not in str(error) and (name in str(error) or "cannot be written" in str(error))
  assert name.endswith(".png") or read
