"""A photograph's orientation is applied once, and its EXIF, XMP, text, gamma and resolution go through."""

import struct

import numpy as np
import png
import pytest
import tifffile
from photo_files import (
  HEIGHT,
  ORIENTATION,
  WIDTH,
  exif_block,
  pass_through,
  profile_block,
  random_samples,
  write_deep_png,
  write_tiff,
)
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from ruas_jax.photos.png_files import DESCRIPTIVE
from ruas_jax.photos.samples import upright


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_turns_as_viewers_turn(orientation):
  samples = random_samples(3, 8)
  image = Image.fromarray(samples)
  image.getexif()[ORIENTATION] = orientation
  np.testing.assert_array_equal(upright(samples, orientation), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_orientation_is_applied_once_and_metadata_kept(tmp_path, suffix):
  smooth = np.linspace(0, 255, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1).repeat(3, -1).astype(np.uint8)
  options = {"lossless": True} if suffix == ".webp" else {"quality": 100} if suffix == ".jpg" else {}
  source = tmp_path / f"turned{suffix}"
  Image.fromarray(smooth).save(source, exif=exif_block(6), icc_profile=profile_block(), **options)
  photo, output = pass_through(source)
  turned = np.rot90(smooth, -1)
  assert np.abs(photo.values() * 255 - turned).max() < 3
  with Image.open(output) as image:
    exif = image.getexif()
    assert image.size == (HEIGHT, WIDTH) and image.info["icc_profile"] == profile_block()
    assert exif.get(ORIENTATION, 1) == 1 and exif[ExifTags.Base.Make] == "Maker"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    assert (details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight]) == (HEIGHT, WIDTH)
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    assert np.abs(np.asarray(ImageOps.exif_transpose(image)).astype(int) - turned).max() < 5
  again, _ = pass_through(output, tmp_path / f"again{suffix}")
  assert again.samples.shape == photo.samples.shape


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_the_noted_size_turns_only_with_the_picture(tmp_path, suffix):
  for orientation, size in ((1, (WIDTH, HEIGHT)), (3, (WIDTH, HEIGHT)), (8, (HEIGHT, WIDTH))):
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"{orientation}{suffix}", exif=exif_block(orientation))
    _, output = pass_through(tmp_path / f"{orientation}{suffix}")
    with Image.open(output) as image:
      details = image.getexif().get_ifd(ExifTags.IFD.Exif)
      assert image.size == size
      assert (details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight]) == size


def test_exif_is_patched_in_place_and_its_thumbnail_unlinked(tmp_path):
  for order in "<>":
    entries = [
      (274, 3, 1, struct.pack(f"{order}HH", 8, 0)),
      (0x8769, 4, 1, struct.pack(f"{order}I", 100)),
      (33432, 2, 4, "© 1".encode("latin-1") + b"\0"),
    ]
    directory = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries)
    block = (
      (b"II*\0" if order == "<" else b"MM\0*")
      + struct.pack(f"{order}IH", 8, 3)
      + directory
      + struct.pack(f"{order}I", 60)
    )
    block = block.ljust(60, b"\0") + struct.pack(f"{order}HHHII", 1, 256, 3, 1, 0) + struct.pack(f"{order}I", 0)
    block = block.ljust(100, b"\0") + struct.pack(f"{order}HHHII", 1, 0x927C, 7, 8, 130) + struct.pack(f"{order}I", 0)
    block = b"Exif\0\0" + block.ljust(130, b"\0") + b"makernot"
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.jpg", exif=block)
    photo, output = pass_through(tmp_path / "a.jpg", tmp_path / f"out{ord(order)}.jpg")
    assert photo.samples.shape == (WIDTH, HEIGHT, 3)
    with Image.open(output) as image:
      written, exif = image.info["exif"], image.getexif()
      assert exif[ORIENTATION] == 1 and exif[33432] == "© 1" and not exif.get_ifd(ExifTags.IFD.IFD1)
    assert len(written) == len(block)
    assert sum(one != other for one, other in zip(written, block, strict=True)) == 2  # the orientation and the link


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_stop_a_photograph(tmp_path):
  for index, block in enumerate((b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\0\0\0")):
    source = tmp_path / f"{index}.jpg"
    Image.new("RGB", (WIDTH, HEIGHT)).save(source, exif=block)
    _, output = pass_through(source)
    with Image.open(output) as image:
      assert image.info["exif"] == block


def test_deep_tiff_turns_and_keeps_tags(tmp_path):
  samples = random_samples(3, 16)
  tags = [(274, 3, 1, 6, True), (33432, 2, 0, "© us".encode("latin-1"), True), (700, 1, 3, b"xmp", True)]
  write_tiff(
    tmp_path / "deep.tif", samples, extratags=tags, iccprofile=profile_block(), resolution=(300, 300), metadata=None
  )
  _, output = pass_through(tmp_path / "deep.tif")
  with tifffile.TiffFile(output) as file:
    page = file.pages.first
    np.testing.assert_array_equal(page.asarray(), np.rot90(samples, -1))
    assert page.tags[33432].value == "© us" and page.tags[700].value == b"xmp" and page.iccprofile == profile_block()
    assert page.tags[282].value == (300, 1) and 274 not in page.tags


def test_orientation_known_from_xmp_only_is_reset_there_too(tmp_path):
  xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
  Image.fromarray(random_samples(3, 8)).save(tmp_path / "turned.jpg", xmp=xmp)
  photo, output = pass_through(tmp_path / "turned.jpg")
  assert photo.samples.shape == (WIDTH, HEIGHT, 3)
  with Image.open(output) as image:
    assert image.getexif().get(ORIENTATION, 1) == 1
    assert image.info["xmp"] == xmp.replace(b'"6"', b'"1"')


def test_exif_kept_as_text_is_applied_once_and_becomes_a_chunk(tmp_path):
  block = exif_block(6)
  text = PngImagePlugin.PngInfo()
  text.add_text("Raw profile type exif", f"\nexif\n{len(block):8d}\n{block.hex()}\n", zip=True)
  Image.fromarray(random_samples(3, 8)).save(tmp_path / "old.png", pnginfo=text)
  photo, output = pass_through(tmp_path / "old.png")
  assert photo.samples.shape == (WIDTH, HEIGHT, 3)
  with Image.open(output) as image:
    assert image.getexif()[ORIENTATION] == 1 and image.getexif()[ExifTags.Base.Make] == "Maker"
    assert "Raw profile type exif" not in image.info


def test_png_text_gamma_and_resolution_are_kept_at_both_depths(tmp_path):
  text = PngImagePlugin.PngInfo()
  text.add_text("Title", "night")
  text.add(b"gAMA", (45455).to_bytes(4, "big"))
  Image.fromarray(random_samples(3, 8)).save(
    tmp_path / "eight.png", pnginfo=text, dpi=(300, 300), icc_profile=profile_block()
  )
  write_deep_png(tmp_path / "plain.png", random_samples(3, 16))
  metadata = [
    chunk for chunk in png.Reader(bytes=(tmp_path / "eight.png").read_bytes()).chunks() if chunk[0] in DESCRIPTIVE
  ]
  header, *rest = png.Reader(bytes=(tmp_path / "plain.png").read_bytes()).chunks()
  with open(tmp_path / "deep.png", "wb") as file:
    png.write_chunks(file, [header, *metadata, *rest])
  for name in ("eight.png", "deep.png"):
    _, output = pass_through(tmp_path / name)
    with Image.open(output) as image:
      assert image.info["Title"] == "night" and image.info["gamma"] == pytest.approx(0.45455)
      assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1) and image.info["icc_profile"] == profile_block()
