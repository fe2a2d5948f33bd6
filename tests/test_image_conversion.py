"""A photograph in another format: what that can hold goes through, what is lost is said in one line."""

import itertools

import numpy as np
import pytest
import tifffile
from photo_files import (
  HEIGHT,
  ORIENTATION,
  WIDTH,
  exif_block,
  profile_block,
  random_samples,
  read_deep_png,
  write_deep_png,
  write_tiff,
)
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from ruas_jax.data.formats import FORMATS
from ruas_jax.errors import UserError
from ruas_jax.photos.reading import read_photo
from ruas_jax.photos.writing import write_photo

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WebP": ".webp", "TIFF": ".tif", "BMP": ".bmp"}


def convert(source, format, **options):
  """The photograph, the path of the result and the warnings."""
  photo = read_photo(source)
  output = source.with_name(f"{source.stem}_of_{source.suffix[1:]}{SUFFIXES[format]}")
  return photo, output, write_photo(output, photo.samples, photo, format=format, overwrite=True, **options)


def write_full(path):
  """A small smooth photograph lying on its side, with all the metadata that its format holds."""
  ramp = np.linspace(0, 200, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1).repeat(3, -1).astype(np.uint8)
  options = {"exif": exif_block(6), "icc_profile": profile_block(), "dpi": (300, 300), "xmp": XMP}
  format = FORMATS[path.suffix]
  if format == "PNG":
    options["pnginfo"] = PngImagePlugin.PngInfo()
    options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    del options["xmp"]
  elif format == "JPEG":
    options |= {"quality": 100, "subsampling": 0}
  elif format == "WebP":
    options["lossless"] = True
  elif format == "TIFF":
    exif = Image.Exif()
    exif.load(options["exif"])
    exif[700] = options.pop("xmp")
    options["exif"] = exif.tobytes()
  elif format == "BMP":
    ramp, options = np.rot90(ramp, -1), {"dpi": (300, 300)}
  Image.fromarray(ramp).save(path, **options)
  return path


@pytest.mark.parametrize("source, target", list(itertools.permutations(SUFFIXES, 2)))
def test_every_format_becomes_every_other(tmp_path, source, target):
  photo, output, warnings = convert(write_full(tmp_path / f"a{SUFFIXES[source]}"), target)
  assert photo.samples.shape == (WIDTH, HEIGHT, 3)
  with Image.open(output) as image:
    assert image.format == target.upper()
    pixels = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    exif, info = image.getexif(), image.info
    assert np.abs(pixels - photo.samples).max() <= (
      6 if target == "JPEG" or (source, target) == ("JPEG", "WebP") else 0
    )
    if source != "BMP" and target != "BMP":
      assert info["icc_profile"] == profile_block()
      assert exif.get(ORIENTATION, 1) == 1 and exif[ExifTags.Base.Make] == "Maker"
      assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
      details = exif.get_ifd(ExifTags.IFD.Exif)
      assert (details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight]) == (HEIGHT, WIDTH)
      xmp = image.tag_v2[700] if target == "TIFF" else info["xmp"]
      assert XMP.replace(b'"6"', b'"1"') in xmp
    if "WebP" not in (source, target):
      assert info["dpi"] == pytest.approx((300, 300), rel=1e-3)
  lost = []
  if source != "BMP" and target == "BMP":
    lost = ["EXIF", "XMP", "the colour profile"]
  if target == "WebP":
    lost = ["the resolution"]
  assert warnings == ([f"as {target} it loses {', '.join(lost)}"] if lost else [])
  assert read_photo(output).warnings == ()


def test_sixteen_bits_stay_or_become_the_nearest_of_eight(tmp_path):
  samples = random_samples(3, 16)
  write_deep_png(tmp_path / "a.png", samples)
  write_tiff(tmp_path / "a.tif", samples, metadata=None)
  for format in ("WebP", "BMP", "JPEG"):
    _, output, warnings = convert(tmp_path / "a.png", format)
    assert warnings == [f"as {format} it loses 8 of its 16 bits per sample"]
    if format != "JPEG":
      with Image.open(output) as image:
        np.testing.assert_array_equal(np.asarray(image), np.round(samples / 257))
  _, output, warnings = convert(tmp_path / "a.png", "TIFF")
  np.testing.assert_array_equal(tifffile.imread(output), samples)
  _, output, others = convert(tmp_path / "a.tif", "PNG")
  np.testing.assert_array_equal(read_deep_png(output), samples)
  assert warnings == others == []


def test_resolution_in_centimetres_becomes_that_in_inches(tmp_path):
  write_tiff(tmp_path / "a.tif", random_samples(3, 8), resolution=(100, 50), resolutionunit="CENTIMETER", metadata=None)
  _, output, warnings = convert(tmp_path / "a.tif", "PNG")
  with Image.open(output) as image:
    assert warnings == [] and image.info["dpi"] == pytest.approx((254, 127), rel=1e-3)
  write_tiff(tmp_path / "ratio.tif", random_samples(3, 8), resolution=(2, 1), resolutionunit="NONE", metadata=None)
  assert convert(tmp_path / "ratio.tif", "WebP")[2] == []  # no resolution, which WebP would lose


@pytest.mark.parametrize("channels, bits", [(2, 8), (4, 8), (4, 16)])
def test_alpha_stays_or_is_laid_on_white(tmp_path, channels, bits):
  samples = random_samples(channels, bits)
  samples[0, :, -1], samples[1, :, -1] = 0, 2**bits - 1
  if bits == 16:
    write_deep_png(tmp_path / "a.png", samples)
  else:
    Image.fromarray(samples).save(tmp_path / "a.png")
  _, output, warnings = convert(tmp_path / "a.png", "BMP")
  assert "transparency (replaced by white)" in warnings[0] and ("16 bits" in warnings[0]) is (bits == 16)
  with Image.open(output) as image:
    flat = np.asarray(image).reshape(HEIGHT, WIDTH, channels - 1)
  assert (flat[0] == 255).all()
  np.testing.assert_array_equal(flat[1], np.round(samples[1, :, :-1] / (257 if bits == 16 else 1)))
  for format in ("TIFF", "WebP"):
    _, output, warnings = convert(tmp_path / "a.png", format)
    assert not any("transparency" in line for line in warnings)
    kept = read_photo(output).samples
    expected = samples if format == "TIFF" or bits == 8 else np.round(samples / 257)
    expected = (
      expected if kept.shape == samples.shape else np.concatenate([expected[..., :1]] * 3 + [expected[..., 1:]], -1)
    )
    np.testing.assert_array_equal(kept, expected)


def test_alpha_that_hides_nothing_is_no_loss(tmp_path):
  samples = random_samples(4, 8)
  samples[..., -1] = 255
  Image.fromarray(samples).save(tmp_path / "a.png")
  _, output, warnings = convert(tmp_path / "a.png", "BMP")
  assert warnings == []
  np.testing.assert_array_equal(read_photo(output).samples, samples[..., :3])


def test_grey_stays_grey_where_the_format_has_it(tmp_path):
  Image.fromarray(random_samples(1, 8)).save(tmp_path / "a.png", icc_profile=profile_block())
  for format in ("JPEG", "TIFF", "BMP", "WebP"):
    photo, output, warnings = convert(tmp_path / "a.png", format)
    again = read_photo(output)
    assert again.colours == (3 if format == "WebP" else 1)
    assert bool(warnings) is (format in ("WebP", "BMP"))  # the profile
    if format != "JPEG":
      np.testing.assert_array_equal(again.samples, np.broadcast_to(photo.samples, again.samples.shape))


def test_text_comments_and_captions_that_are_lost_are_named(tmp_path):
  text = PngImagePlugin.PngInfo()
  text.add_text("Title", "night")
  text.add(b"gAMA", (100000).to_bytes(4, "big"))
  Image.fromarray(random_samples(3, 8)).save(tmp_path / "a.png", pnginfo=text)
  assert convert(tmp_path / "a.png", "TIFF")[2] == ["as TIFF it loses PNG text, PNG colour description"]
  records = b"\x1c\x02\x78\x00\x05night"
  segment = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + len(records).to_bytes(4, "big") + records
  extra = b"\xff\xed" + (len(segment) + 2).to_bytes(2, "big") + segment
  Image.fromarray(random_samples(3, 8)).save(tmp_path / "a.jpg", comment=b"hello", extra=extra)
  assert convert(tmp_path / "a.jpg", "WebP")[2] == ["as WebP it loses IPTC, the comment"]
  _, output, warnings = convert(tmp_path / "a.jpg", "TIFF")
  assert warnings == ["as TIFF it loses the comment"]
  with tifffile.TiffFile(output) as file:
    assert bytes(file.pages.first.tags[33723].value) == records
  _, output, warnings = convert(tmp_path / "a.jpg", "PNG")
  assert warnings == ["as PNG it loses IPTC"]
  with Image.open(output) as image:
    assert image.info["Comment"] == "hello"
  _, output, _ = convert(output.parent / "a_of_jpg.tif", "JPEG")
  with Image.open(output) as image:
    assert image.info["photoshop"] == {0x0404: records}


def test_metadata_that_is_too_long_for_jpeg_is_named(tmp_path):
  exif = Image.Exif()
  exif[ExifTags.Base.ImageDescription] = "x" * 70000
  Image.fromarray(random_samples(3, 8)).save(tmp_path / "a.png", exif=exif)
  _, output, warnings = convert(tmp_path / "a.png", "JPEG")
  assert warnings == ["as JPEG it loses EXIF (too long for JPEG)"]
  assert read_photo(output).samples.shape == (HEIGHT, WIDTH, 3)


def test_lossy_or_not_as_asked(tmp_path):
  noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
  Image.fromarray(noise).save(tmp_path / "a.png")
  Image.fromarray(noise).save(tmp_path / "a.jpg")
  for source, quality, lossless in (("a.png", None, True), ("a.png", 50, False), ("a.jpg", None, False)):
    _, output, _ = convert(tmp_path / source, "WebP", quality=quality)
    assert (b"VP8L" in output.read_bytes()) is lossless
  sizes = [convert(tmp_path / "a.png", "JPEG", quality=quality)[1].stat().st_size for quality in (10, None, 100)]
  assert sizes == sorted(set(sizes))


def test_the_name_must_end_like_the_format(tmp_path):
  Image.fromarray(random_samples(3, 8)).save(tmp_path / "a.png")
  photo = read_photo(tmp_path / "a.png")
  with pytest.raises(UserError, match="JPEG"):
    write_photo(tmp_path / "b.png", photo.samples, photo, format="JPEG")
  assert write_photo(tmp_path / "b.JPE", photo.samples, photo, format="JPEG") == []


def test_a_size_that_a_format_does_not_hold_is_one_line(tmp_path):
  Image.new("L", (16384, 1)).save(tmp_path / "a.png")
  photo = read_photo(tmp_path / "a.png")
  with pytest.raises(UserError, match=r"b\.webp: cannot be written \(.*16383"):
    write_photo(tmp_path / "b.webp", photo.samples, photo, format="WebP")
  assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
