"""The table of formats x depth x orientation x colour profile x alpha, with files by the formats' own encoders; and
broken files of each format. Formats whose package is absent are skipped."""

import base64
import dataclasses
import functools
import io
import itertools
import struct

import numpy as np
import png
import pytest
import tifffile
from photo_files import HEIGHT, ORIENTATION, WIDTH, exif_block, pass_through, profile_block, write_deep_png, write_dng
from PIL import ExifTags, Image, ImageCms

from ruas_jax.data.formats import PHOTO_FORMATS, RAW
from ruas_jax.errors import UserError
from ruas_jax.photos import extras, raw_files
from ruas_jax.photos.conversion import convert
from ruas_jax.photos.jxl_header import read_header
from ruas_jax.photos.reading import read_photo
from ruas_jax.photos.writing import write_photo

DEPTHS = {".png": (8, 16), ".jpg": (8,), ".webp": (8,), ".tif": (8, 16), ".bmp": (8,)}
DEPTHS |= {".heic": (8, 10), ".avif": (8,), ".jxl": (8,)}
WITH_ALPHA = (".png", ".webp", ".tif", ".heic", ".avif", ".jxl")
LOSSY = {".jpg": 6, ".avif": 6}  # levels of 255 by which a smooth picture may change
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
# Files that no encoder of the extra writes: smooth pictures of 4x4 pixels.
DEEP_AVIF = base64.b64decode(
  "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAAAAAOcGl0"
  "bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAANQAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFDb2xvcgAAAABqaXBy"
  "cAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAABAAAAAQAAAAQcGl4aQAAAAADCgoKAAAADGF2MUOBIEAAAAAAE2NvbHJuY2x4AAIAAgAAgAAAABdpcG1h"
  "AAAAAAAAAAEAAQQBAoMEAAAAPW1kYXQSAAoIOAR/nAgIAkAyJxAAAPYAxTtWNl1fc+E/sb1di6AzI3qSK2GeZUn94opwbJHgLtzYQA=="
)
DEEP_JXL = base64.b64decode(
  "AAAADEpYTCANCocKAAAAFGZ0eXBqeGwgAAAAAGp4bCAAAAAJanhsbAoAAABuanhsY/8KGBD8ABQtAggEAQBcAUsYixUKJQXrtk4CCFePXSAgALwC"
  "r8Ar8Aq8ArHAK/AKvAKvwCvwCrwCr8Ar+AQu+0U2vuZNb3rTi970oje96E3v+cw1NAybzzgAEFhP/ehPkkOSnWRPAg=="
)
ANIMATED_JXL = base64.b64decode("/woYEEETAIgJCAQBABwASxiLFYIDAAgEAQAcAEsYixWCAwAIBAUAHABLGIsVggMA")


def need(suffix):
  """Skips where a format's package is absent."""
  lacking = extras.missing(PHOTO_FORMATS.get(suffix, RAW))
  if lacking:
    pytest.skip(lacking)


@functools.cache
def other_profile() -> bytes:
  """An ICC profile that is not sRGB: red and green are exchanged."""
  profile = bytearray(profile_block())
  entries = {bytes(profile[start : start + 4]): start + 4 for start in range(132, 132 + 12 * profile[131], 12)}
  red, green = (profile[entries[name] : entries[name] + 8] for name in (b"rXYZ", b"gXYZ"))
  profile[entries[b"rXYZ"] : entries[b"rXYZ"] + 8], profile[entries[b"gXYZ"] : entries[b"gXYZ"] + 8] = green, red
  return bytes(profile)


def smooth(bits: int, alpha: bool) -> np.ndarray:
  """Samples [H, W, C] of 8 bits, or of `bits` in 16."""
  ramp = np.linspace(0.1, 0.7, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
  picture = np.stack([ramp, ramp[::-1], ramp[:, ::-1], ramp[::-1, ::-1]][: 4 if alpha else 3], axis=-1)
  if bits == 8:
    return np.rint(255 * picture).astype(np.uint8)
  return np.rint(65535 / (2**bits - 1) * np.rint((2**bits - 1) * picture)).astype(np.uint16)


def write(path, samples, bits, orientation, profile):
  """A file by the format's own encoder, with EXIF and XMP."""
  suffix, exif, xmp = path.suffix, exif_block(orientation), XMP.replace(b'"6"', b'"%d"' % orientation)
  options = {"exif": exif, "icc_profile": profile} if profile else {"exif": exif}
  if suffix == ".heic":
    import pillow_heif

    mode, content = "RGB" if samples.shape[-1] == 3 else "RGBA", samples
    if bits == 10:
      mode, content = f"{mode};16", np.rint(samples / 65535 * 1023).astype(np.uint16) << 6
    options |= {"quality": -1, "chroma": 444, "matrix_coefficients": 0, "xmp": xmp}
    options["enc_params"] = {"preset": "ultrafast", "x265:pools": "none"}
    pillow_heif.from_bytes(mode, (WIDTH, HEIGHT), content.tobytes()).save(path, **options)
  elif suffix == ".jxl" and profile != other_profile():
    from pillow_jxl import Encoder

    encoder = Encoder(mode="RGB" if samples.shape[-1] == 3 else "RGBA", lossless=True, use_container=True)
    exif = bytes(4) + exif.removeprefix(b"Exif\0\0")
    path.write_bytes(encoder(samples.tobytes(), WIDTH, HEIGHT, jpeg_encode=False, exif=exif, xmp=xmp))
  elif suffix == ".jxl":  # the encoder takes profiles and orientations only with a JPEG
    from pillow_jxl import Encoder

    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "JPEG", quality=100, subsampling=0, xmp=xmp, **options)
    path.write_bytes(
      Encoder(mode="RGB", lossless=True, use_container=True)(buffer.getvalue(), WIDTH, HEIGHT, jpeg_encode=True)
    )
  elif bits == 16 and suffix == ".png":
    write_deep_png(path, samples)
    header, *rest = png.Reader(bytes=path.read_bytes()).chunks()
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG", **options)
    about = [chunk for chunk in png.Reader(bytes=buffer.getvalue()).chunks() if chunk[0] in (b"eXIf", b"iCCP")]
    with path.open("wb") as file:
      png.write_chunks(file, [header, *about, *rest])
  elif bits == 16:
    tags = [(274, 3, 1, orientation, True), (271, 2, 0, "Maker", True)]
    extra = {"extrasamples": ["unassalpha"]} if samples.shape[-1] == 4 else {}
    tifffile.imwrite(path, samples, photometric="rgb", extratags=tags, iccprofile=profile, metadata=None, **extra)
  else:
    options |= {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True, "exact": True}}.get(suffix, {})
    options |= {"quality": 100, "subsampling": "4:4:4", "xmp": xmp} if suffix == ".avif" else {}
    Image.fromarray(samples).save(path, **({} if suffix == ".bmp" else options))


def reopened(path):
  """The result as its format's own decoder gives it: samples, EXIF, the profile."""
  if path.suffix == ".heic":
    import pillow_heif

    file = pillow_heif.open_heif(path, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    samples = np.asarray(file[0])
    samples = samples if samples.dtype == np.uint8 else samples / 1023 * 65535
    exif = Image.Exif()
    exif.load(file.info["exif"])
    return samples, exif, file.info.get("icc_profile")
  if path.suffix == ".jxl":
    import pillow_jxl  # noqa: F401
  if path.suffix in (".png", ".tif"):
    photo = read_photo(path)  # 16 bits, which Pillow does not have; `test_image_files` checks the reader
    with Image.open(path) as image:
      return photo.samples, image.getexif(), image.info.get("icc_profile")
  with Image.open(path) as image:
    return np.asarray(image), image.getexif(), image.info.get("icc_profile")


def cells():
  """Every cell of the table; where a format has no profile or alpha there is none."""
  for suffix, depths in DEPTHS.items():
    profiles = ("none",) if suffix == ".bmp" else ("none", "sRGB", "other")
    for bits, orientation, profile, alpha in itertools.product(depths, (1, 6), profiles, (False, True)):
      if (alpha and suffix not in WITH_ALPHA) or (suffix == ".bmp" and orientation == 6):
        continue
      if suffix == ".jxl" and (
        profile == "sRGB" or (profile == "other" and alpha) or (profile, orientation) == ("none", 6)
      ):
        continue  # no encoder here writes it
      yield pytest.param(
        suffix, bits, orientation, profile, alpha, id=f"{suffix}-{bits}-{orientation}-{profile}-{alpha}"
      )


@pytest.mark.parametrize("suffix, bits, orientation, profile, alpha", list(cells()))
def test_every_cell_of_the_table(tmp_path, suffix, bits, orientation, profile, alpha):
  need(suffix)
  given = {"none": None, "sRGB": profile_block(), "other": other_profile()}[profile]
  samples = smooth(bits, alpha)
  write(tmp_path / f"photo{suffix}", samples, bits, orientation, given)
  photo, output = pass_through(tmp_path / f"photo{suffix}")
  upright = samples if orientation == 1 else np.rot90(samples, -1)
  tolerance = LOSSY.get(suffix, 2 if suffix == ".heic" else 0) / 255 * np.iinfo(samples.dtype).max
  if suffix == ".jxl" and profile == "other":
    tolerance = 4  # it was made from a JPEG
  assert (photo.format, photo.bits) == (PHOTO_FORMATS[suffix], bits)
  assert photo.samples.shape == upright.shape and photo.samples.dtype == samples.dtype
  assert np.abs(photo.samples.astype(float) - upright).max() <= tolerance / 2 + 1e-6
  assert photo.metadata.profile == (given or b"") or (suffix == ".jxl" and not given)
  written, exif, kept = reopened(output)
  if suffix == ".jxl" and given:
    # Written as sRGB, since the encoder takes no profile: red and green are exchanged, as the profile says.
    upright = upright[..., [1, 0, 2]]
    tolerance = 45
  else:
    assert kept == given or (suffix == ".jxl" and b"mntrRGB" in kept)
  assert np.abs(written.astype(float) - upright).max() <= tolerance
  if suffix != ".bmp":
    assert exif[ExifTags.Base.Make] == "Maker" and exif.get(ORIENTATION, 1) == 1
  assert read_photo(output).samples.shape == upright.shape


def test_xmp_is_kept_and_its_orientation_reset(tmp_path):
  for suffix in (".heic", ".avif", ".jxl"):
    if extras.missing(PHOTO_FORMATS[suffix]):
      continue
    write(tmp_path / f"a{suffix}", smooth(8, False), 8, 6, None)
    photo, output = pass_through(tmp_path / f"a{suffix}")
    upright = suffix == ".jxl"  # its container says so
    assert photo.samples.shape == ((HEIGHT, WIDTH, 3) if upright else (WIDTH, HEIGHT, 3))
    assert read_photo(output).metadata.xmp == XMP.replace(b'"6"', b'"1"')


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("suffix, most", [(".heic", 10), (".avif", 8), (".jxl", 16)])
def test_every_kind_of_samples_is_written(tmp_path, suffix, most, bits, channels):
  """As near as the format stores them, and what is lost is named."""
  need(suffix)
  samples = smooth(bits, True)[..., :channels]
  write_deep_png(tmp_path / "a.png", samples) if bits == 16 else Image.fromarray(samples.squeeze()).save(
    tmp_path / "a.png"
  )
  photo, format = read_photo(tmp_path / "a.png"), PHOTO_FORMATS[suffix]
  most = 8 if suffix == ".jxl" and channels > 1 else most
  warnings = write_photo(tmp_path / f"a{suffix}", photo.samples, photo, format=format)
  assert warnings == ([f"as {format} it loses {bits - most} of its {bits} bits per sample"] if bits > most else [])
  again = read_photo(tmp_path / f"a{suffix}")
  expected = samples if again.samples.shape[-1] == channels else samples[..., [0, 0, 0, 1]]  # grey with alpha
  assert again.bits == min(bits, most) and (channels == 2 or again.samples.shape == samples.shape)
  tolerance = 0.6 / (2**again.bits - 1) if suffix == ".jxl" and bits > most else 0 if suffix == ".jxl" else 8 / 255
  scaled = again.samples / np.iinfo(again.samples.dtype).max
  assert np.abs(scaled - expected / np.iinfo(samples.dtype).max).max() <= tolerance + 1e-9


def test_ten_bits_of_heic_stay_and_are_lost_by_name_elsewhere(tmp_path):
  need(".heic")
  write(tmp_path / "a.heic", smooth(10, False), 10, 1, None)
  photo = read_photo(tmp_path / "a.heic")
  assert convert(photo.samples, photo, "PNG")[2] == []
  assert convert(photo.samples, photo, "JPEG")[2] == ["2 of its 10 bits per sample"]
  twelve = dataclasses.replace(photo, storage=photo.storage | {"bits": 12})  # which its encoder writes as 10
  assert [convert(photo.samples, twelve, format)[2] for format in ("HEIC", "TIFF")] == [
    ["2 of its 12 bits per sample"],
    [],
  ]


def test_deep_files_that_are_read_with_eight_bits_say_so(tmp_path):
  ramp = np.rint(np.linspace(0, 255, 48).reshape(4, 4, 3))
  for name, content, bits in (("a.avif", DEEP_AVIF, 10), ("a.jxl", DEEP_JXL, 16)):
    if extras.missing(PHOTO_FORMATS[f".{name[2:]}"]):
      continue
    (tmp_path / name).write_bytes(content)
    photo = read_photo(tmp_path / name)
    assert photo.warnings == (f"it is read with 8 of its {bits} bits per sample",)
    assert np.abs(photo.samples - ramp).max() <= 6


def test_hdr_animations_and_several_pictures_are_refused_by_name(tmp_path):
  need(".avif")
  start = DEEP_AVIF.index(b"colrnclx") + 10
  hdr = DEEP_AVIF[:start] + struct.pack(">H", 16) + DEEP_AVIF[start + 2 :]
  (tmp_path / "a.avif").write_bytes(hdr)
  with pytest.raises(UserError, match=r"a\.avif: HDR pictures \(PQ\) are not supported"):
    read_photo(tmp_path / "a.avif")
  frames = [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ("red", "blue")]
  frames[0].save(tmp_path / "b.avif", save_all=True, append_images=frames[1:])
  with pytest.raises(UserError, match=r"b\.avif: it holds 2 frames"):
    read_photo(tmp_path / "b.avif")
  if not extras.missing("JPEG XL"):
    (tmp_path / "c.jxl").write_bytes(ANIMATED_JXL)
    with pytest.raises(UserError, match=r"c\.jxl: it holds an animation"):
      read_photo(tmp_path / "c.jxl")
  if not extras.missing("HEIC"):
    import pillow_heif

    pillow_heif.register_heif_opener()
    frames[0].save(tmp_path / "d.heic", "HEIF", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=r"d\.heic: it holds 2 pictures"):
      read_photo(tmp_path / "d.heic")
    frames[0].save(tmp_path / "e.heic", "HEIF", color_primaries=9, transfer_characteristics=18, matrix_coefficients=9)
    with pytest.raises(UserError, match=r"e\.heic: HDR pictures \(HLG\)"):
      read_photo(tmp_path / "e.heic")


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (24, 16), (48, 40), (300, 200), (7, 5), (600, 3), (64, 36)])
@pytest.mark.parametrize("mode, lossless", [("RGB", True), ("RGB", False), ("RGBA", True), ("I;16", True)])
def test_the_header_of_jpeg_xl_is_read_before_the_pixels(size, mode, lossless):
  need(".jxl")
  from pillow_jxl import Encoder

  bytes_each = 2 if mode == "I;16" else len(mode)
  for container in (False, True):
    encoder = Encoder(
      mode=mode, lossless=lossless, quality=90, effort=1, use_container=container, use_original_profile=lossless
    )
    header = read_header(encoder(bytes(size[0] * size[1] * bytes_each), *size, jpeg_encode=False))
    assert (header.width, header.height) == size and header.bits == (16 if mode == "I;16" else 8)
    assert (header.float, header.animated, header.lossy) == (False, False, not lossless)


def scene() -> np.ndarray:
  """Linear light [H, W, 3] of six colours, each a square of 24 pixels."""
  colours = [
    (0.02, 0.02, 0.02),
    (0.2, 0.05, 0.02),
    (0.03, 0.1, 0.4),
    (0.5, 0.5, 0.5),
    (0.01, 0.2, 0.05),
    (0.6, 0.3, 0.1),
  ]
  return np.array(colours).reshape(2, 3, 3).repeat(24, 0).repeat(24, 1)


@pytest.mark.parametrize("orientation, turns", [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_raw_is_developed_to_the_scene(tmp_path, orientation, turns):
  need(".dng")
  write_dng(tmp_path / "a.dng", scene(), orientation)
  photo = read_photo(tmp_path / "a.dng")
  assert (photo.format, photo.bits, photo.warnings) == (RAW, 16, ())
  values = np.rot90(photo.samples, -turns) / 65535
  light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
  assert light.shape == scene().shape
  centres = (slice(12, None, 24), slice(12, None, 24))
  np.testing.assert_allclose(light[centres], scene()[centres], rtol=0.02, atol=3e-4)  # 12 bits


def test_raw_becomes_a_tagged_tiff_or_jpeg(tmp_path):
  need(".dng")
  exif = {306: (2, 0, "2024:02:29 23:59:59"), 33432: (2, 0, "me"), 700: (1, len(XMP), XMP)}
  write_dng(tmp_path / "a.dng", scene(), 6, tags=exif)
  photo = read_photo(tmp_path / "a.dng")
  assert write_photo(tmp_path / "a.tif", photo.samples, photo) == []
  assert write_photo(tmp_path / "a.jpg", photo.samples, photo, format="JPEG") == [
    "as JPEG it loses 8 of its 16 bits per sample"
  ]
  with tifffile.TiffFile(tmp_path / "a.tif") as file:
    page = file.pages.first
    assert page.dtype == np.uint16 and page.photometric == 2 and 274 not in page.tags and 33421 not in page.tags
    assert page.tags[700].value == XMP.replace(b'"6"', b'"1"')
    np.testing.assert_array_equal(page.asarray(), photo.samples)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(page.iccprofile))
  assert "sRGB" in ImageCms.getProfileDescription(profile)
  for path in (tmp_path / "a.tif", tmp_path / "a.jpg"):
    with Image.open(path) as image:
      assert image.size == (48, 72)
      tags = image.getexif()
      assert [tags[tag] for tag in (271, 272, 306, 33432)] == ["Maker", "Model", "2024:02:29 23:59:59", "me"]


def test_raw_without_a_white_balance_says_so(tmp_path):
  need(".dng")
  tags = {50728: (5, 3, (0, 1) * 3)}
  write_dng(tmp_path / "a.dng", scene(), tags=tags)
  photo = read_photo(tmp_path / "a.dng")
  assert photo.warnings == ("it has no white balance of the camera: it is developed for daylight",)
  # Daylight, whatever the picture shows: what is green in it does not change how the rest is developed.
  greener = scene()
  greener[:, 24:] = (0.02, 0.5, 0.02)
  write_dng(tmp_path / "b.dng", greener, tags=tags)
  left = (slice(None), slice(16))
  np.testing.assert_array_equal(read_photo(tmp_path / "b.dng").samples[left], photo.samples[left])


@pytest.mark.parametrize("preview", [b"", b"no JPEG"])
def test_a_raw_file_whose_preview_is_damaged_is_read_without_exif(preview):
  metadata, warnings = raw_files._metadata(b"FUJIFILM", preview)  # a kind whose EXIF is in the preview alone
  assert metadata.exif == b"" and warnings == ["its EXIF data cannot be read and are left out"]


def written(path):
  """A healthy file of the format of the path's extension."""
  if path.suffix == ".dng":
    write_dng(path, scene())
  else:
    write(path, smooth(8, False), 8, 1, None)
  return path.read_bytes()


BAD = [*DEPTHS, ".dng"]


@pytest.mark.parametrize("suffix", BAD)
def test_broken_files_are_one_line(tmp_path, suffix, monkeypatch, capfd):
  need(suffix)
  path = tmp_path / f"broken{suffix}"
  whole = written(path)
  read_photo(path)
  for content in (b"", b"no picture", whole[:20], whole[: len(whole) // 2], whole[:-20], whole[:12] + bytes(200)):
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"broken{suffix}: ") as caught:
      read_photo(path)
    assert "\n" not in str(caught.value)
  path.write_bytes(whole)
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
  with pytest.raises(UserError, match=f"broken{suffix}: more than 40 pixels are not supported"):
    read_photo(path)


def test_damage_anywhere_in_the_added_formats_is_a_photograph_or_one_line(tmp_path):
  rng = np.random.default_rng(0)
  for suffix in (".heic", ".avif", ".jxl", ".dng"):
    if extras.missing(PHOTO_FORMATS.get(suffix, RAW)):
      continue
    path = tmp_path / f"a{suffix}"
    whole = written(path)
    for _ in range(40):
      data = bytearray(whole)
      for position in rng.integers(0, min(len(data), 800), rng.integers(1, 4)):
        data[position] = rng.integers(256)
      path.write_bytes(data)
      try:
        assert all("\n" not in line for line in read_photo(path).warnings)
      except UserError as error:
        assert "\n" not in str(error) and path.name in str(error)


def test_a_raw_file_of_an_unknown_camera_or_another_format_is_named(tmp_path):
  need(".dng")
  Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.nef", "JPEG")
  (tmp_path / "b.cr2").write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(500))
  for name in ("a.nef", "b.cr2"):
    with pytest.raises(UserError, match=rf"{name}: not a raw file of a camera that LibRaw [\d.]+ knows"):
      read_photo(tmp_path / name)


@pytest.mark.parametrize("name", ["a.heic", "a.jxl", "a.dng"])
def test_without_its_package_a_format_names_the_extra(tmp_path, name, monkeypatch):
  monkeypatch.setattr(extras.importlib.util, "find_spec", lambda module: None)
  beginning = {"a.heic": b"\0\0\0\x18ftypheic", "a.jxl": b"\xff\x0a"}.get(name, b"II*\0")
  (tmp_path / name).write_bytes(beginning + bytes(40))
  with pytest.raises(UserError, match=r'needs more packages: pip install "ruas-jax\[photos\]"'):
    read_photo(tmp_path / name)
  Image.fromarray(smooth(8, False)).save(tmp_path / "b.png")
  photo = read_photo(tmp_path / "b.png")
  if name != "a.dng":
    with pytest.raises(UserError, match=r"a\.\w+: cannot be written \(.*needs more packages"):
      write_photo(tmp_path / name, photo.samples, photo, format=PHOTO_FORMATS[name[1:]], overwrite=True)


@pytest.mark.parametrize("name", ["a.heic", "a.jxl", "a.dng"])
def test_a_package_that_cannot_be_imported_is_one_line(tmp_path, name, monkeypatch):
  need(f".{name.split('.')[1]}")

  def broken(module):
    raise ImportError("libheif.so.1: cannot open shared object file:\nno such file")

  monkeypatch.setattr(extras.importlib, "import_module", broken)
  said = r"the package \w+ cannot be imported \(libheif.so.1: .*: no such file\); install it anew: pip install .*"
  beginning = {"a.heic": b"\0\0\0\x18ftypheic", "a.jxl": b"\xff\x0a"}.get(name, b"II*\0")
  (tmp_path / name).write_bytes(beginning + bytes(40))
  if name != "a.jxl":  # whose header is read before the package is needed
    with pytest.raises(UserError, match=said):
      read_photo(tmp_path / name)
  Image.fromarray(smooth(8, False)).save(tmp_path / "b.png")
  photo = read_photo(tmp_path / "b.png")
  if name != "a.dng":
    with pytest.raises(UserError, match=rf"{name}: cannot be written \({said}") as caught:
      write_photo(tmp_path / name, photo.samples, photo, format=PHOTO_FORMATS[name[1:]], overwrite=True)
    assert "\n" not in str(caught.value)
