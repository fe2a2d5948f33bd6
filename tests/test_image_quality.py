"""What is written is as fine as what was read: tables, subsampling and kind of JPEG, compression and layout of TIFF."""

import numpy as np
import pytest
import tifffile
from photo_files import exif_block, pass_through, random_samples
from PIL import Image, JpegImagePlugin

from ruas_jax.errors import UserError
from ruas_jax.photos.photo import Metadata, Photo
from ruas_jax.photos.reading import read_photo
from ruas_jax.photos.tiff_blocks import DEFLATE, LZW, NONE, PACKBITS, Layout
from ruas_jax.photos.tiff_directory import Directory, read_first
from ruas_jax.photos.tiff_files import encode_tiff
from ruas_jax.photos.writing import write_photo

SUBSAMPLINGS = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
PREDICTOR, ROWS = 317, 278


def smooth(height=48, width=64):
  """uint8 [H, W, 3] that JPEG keeps well."""
  ramp = np.add.outer(np.arange(height), np.arange(width)) * 2
  return np.dstack([ramp, ramp[::-1], ramp[:, ::-1]]).astype(np.uint8)


@pytest.mark.parametrize("quality", [30, 75, 100])
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_keeps_tables_subsampling_and_progression(tmp_path, quality, subsampling, progressive):
  source = tmp_path / "photo.jpg"
  Image.fromarray(smooth()).save(source, quality=quality, subsampling=subsampling, progressive=progressive)
  _, output = pass_through(source)
  with Image.open(source) as before, Image.open(output) as after:
    assert after.quantization == before.quantization
    assert JpegImagePlugin.get_sampling(after) == subsampling
    assert ("progressive" in after.info) is progressive


def test_jpeg_of_quality_100_comes_back_almost_as_it_was(tmp_path):
  Image.fromarray(smooth()).save(tmp_path / "photo.jpg", quality=100, subsampling=0)
  _, output = pass_through(tmp_path / "photo.jpg")
  with Image.open(tmp_path / "photo.jpg") as before, Image.open(output) as after:
    assert np.abs(np.asarray(after).astype(int) - np.asarray(before)).max() <= 2


def test_grey_and_printers_jpeg_keep_their_tables(tmp_path):
  grey, ink = (Image.fromarray(smooth()).convert(mode) for mode in ("L", "CMYK"))
  for image in (grey, ink):
    image.save(tmp_path / "photo.jpg", quality=98)
    _, output = pass_through(tmp_path / "photo.jpg", tmp_path / f"{image.mode}.jpg")
    with Image.open(tmp_path / "photo.jpg") as before, Image.open(output) as after:
      finest = np.min(list(before.quantization.values()), axis=0)
      assert all((np.asarray(table) <= finest).all() for table in after.quantization.values())


def test_different_tables_of_the_two_chroma_channels_become_the_finer(tmp_path):
  """Pillow writes one for both."""
  source = tmp_path / "photo.jpg"
  tables = [[4] * 64, [9] * 64]
  Image.fromarray(smooth()).save(source, qtables=tables, subsampling=0)
  data = bytearray(source.read_bytes())
  components = data.index(b"\xff\xc0") + 10
  assert data[components + 6 :][:3] == b"\x03\x11\x01"
  data[components + 8] = 0  # Cr by the table of luma
  source.write_bytes(data)
  _, output = pass_through(source)
  with Image.open(output) as after:
    assert after.quantization[1] == [4] * 64


def test_rgb_in_jpeg_stays_rgb(tmp_path):
  Image.fromarray(smooth()).save(tmp_path / "photo.jpg", quality=100, keep_rgb=True, subsampling=0)
  _, output = pass_through(tmp_path / "photo.jpg")
  with Image.open(tmp_path / "photo.jpg") as before, Image.open(output) as after:
    assert after.info["adobe_transform"] == 0 and after.quantization[0] == before.quantization[0]
    np.testing.assert_allclose(np.asarray(after).astype(int), np.asarray(before), atol=1)


def test_jpeg_turned_sideways_turns_its_tables_and_keeps_its_colour(tmp_path):
  luma = np.arange(1, 65)
  for name, exif in (("upright.jpg", exif_block(1)), ("turned.jpg", exif_block(6))):
    Image.fromarray(smooth()).save(
      tmp_path / name, qtables=[luma.tolist(), luma.tolist()], subsampling=1, exif=exif, comment=b"x"
    )
    _, output = pass_through(tmp_path / name)
    with Image.open(output) as image:
      turned = name == "turned.jpg"
      expected = luma.reshape(8, 8).T.ravel() if turned else luma
      assert image.quantization[0] == expected.tolist()
      # Pillow has no vertical subsampling, and half of it would be lost in each direction otherwise.
      assert SUBSAMPLINGS[JpegImagePlugin.get_sampling(image)] == ("4:4:4" if turned else "4:2:2")


def test_captions_of_jpeg_are_kept(tmp_path):
  records = b"\x1c\x02\x78\x00\x06nights"
  assert len(records) % 2
  resource = b"8BIM\x04\x04\0\0" + len(records).to_bytes(4, "big") + records + b"\0"
  segment = b"Photoshop 3.0\0" + resource
  extra = b"\xff\xed" + (len(segment) + 2).to_bytes(2, "big") + segment
  Image.fromarray(smooth()).save(tmp_path / "photo.jpg", extra=extra)
  _, output = pass_through(tmp_path / "photo.jpg")
  with Image.open(output) as image:
    assert image.info["photoshop"] == {0x0404: records}
    (written,) = [content for name, content in image.applist if name == "APP13"]
    assert written == segment  # with the byte that makes the length even


@pytest.mark.parametrize("suffix, options", [(".jpg", {"quality": 90}), (".webp", {"quality": 90})])
def test_a_quality_overrides(tmp_path, suffix, options):
  source = tmp_path / f"photo{suffix}"
  rng = np.random.default_rng(0)
  Image.fromarray(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(source, **options)
  photo, sizes = read_photo(source), []
  for quality in (1, 40, 100):
    output = tmp_path / f"{quality}{suffix}"
    assert write_photo(output, photo.samples, photo, quality=quality) == []
    sizes.append(output.stat().st_size)
  assert sizes == sorted(set(sizes))
  if suffix == ".jpg":
    Image.fromarray(photo.samples).save(tmp_path / "expected.jpg", quality=40)
    with Image.open(tmp_path / "expected.jpg") as expected, Image.open(tmp_path / "40.jpg") as image:
      assert image.quantization == expected.quantization
  for wrong in (0, 101):
    with pytest.raises(UserError, match=f"`quality` must be between 1 and 100, not {wrong}"):
      write_photo(tmp_path / f"wrong{suffix}", photo.samples, photo, quality=wrong)


@pytest.mark.parametrize("lossless", [True, False])
def test_webp_is_lossless_where_the_source_was(tmp_path, lossless):
  Image.fromarray(random_samples(3, 8)).save(tmp_path / "photo.webp", lossless=lossless, exif=exif_block(1))
  photo, output = pass_through(tmp_path / "photo.webp")
  write_photo(tmp_path / "coarse.webp", photo.samples, photo, quality=10)
  for path in (output, tmp_path / "coarse.webp"):
    with Image.open(path) as image:
      assert (b"VP8L" in path.read_bytes()) is lossless
      assert np.array_equal(np.asarray(image), photo.samples) is lossless


COMPRESSIONS = {"none": NONE, "lzw": LZW, "deflate": DEFLATE, "packbits": PACKBITS}


def layouts():
  for name, compression in COMPRESSIONS.items():
    for differences in (False, True)[: 2 if name in ("lzw", "deflate") else 1]:
      for rows, tile in ((5, None), (1, None), (2**32 - 1, None), (0, (16, 32))):
        where = f"tiles{tile}" if tile else f"strips{min(rows, 99)}"
        yield pytest.param(compression, differences, rows, tile, id=f"{name}-{'pred' * differences}-{where}")


def write_layout(path, samples, compression, differences, rows, tile, order="<"):
  """By the writer under test: no other one here writes all of them. Pillow's libtiff confirms what it wrote."""
  layout, metadata = Layout(order, compression, differences, rows, tile), Metadata(native=Directory(order))
  path.write_bytes(encode_tiff(samples, Photo(samples, path, "TIFF", metadata, layout)))
  with Image.open(path) as image:  # which takes of 16-bit colour the upper 8 bits
    narrow = samples >> 8 if (samples.dtype, samples.shape[-1]) == (np.uint16, 3) else samples
    np.testing.assert_array_equal(np.asarray(image).reshape(samples.shape), narrow)


def storage_of(path):
  with tifffile.TiffFile(path) as file:
    page = file.pages.first
    tile = (page.tilelength, page.tilewidth) if page.is_tiled else None
    rows = None if tile else page.rowsperstrip
    return file.byteorder, int(page.compression), int(page.predictor), tile, rows


@pytest.mark.parametrize("bits, channels, order", [(8, 3, "<"), (16, 3, ">"), (16, 1, "<")])
@pytest.mark.parametrize("compression, differences, rows, tile", list(layouts()))
def test_tiff_keeps_its_layout(tmp_path, compression, differences, rows, tile, bits, channels, order):
  samples = np.random.default_rng(0).integers(0, 2**bits, (37, 41, channels)).astype(f"uint{bits}")
  samples[10:20] = 7  # something to compress
  source = tmp_path / "photo.tif"
  write_layout(source, samples, compression, differences, rows, tile, order)
  photo, output = pass_through(source)
  assert photo.warnings == ()
  np.testing.assert_array_equal(photo.samples, samples)
  np.testing.assert_array_equal(read_photo(output).samples, samples)
  assert storage_of(output) == storage_of(source)
  assert output.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", None])
def test_tiff_by_libtiff_keeps_its_compression(tmp_path, bits, compression):
  samples = np.random.default_rng(0).integers(0, 2**bits, (50, 30)).astype(f"uint{bits}")
  predictor = {PREDICTOR: 2} if compression in ("tiff_lzw", "tiff_adobe_deflate") else {}
  Image.fromarray(samples).save(tmp_path / "photo.tif", compression=compression, tiffinfo={ROWS: 16, **predictor})
  photo, output = pass_through(tmp_path / "photo.tif")
  np.testing.assert_array_equal(photo.samples[..., 0], samples)
  assert storage_of(output) == storage_of(tmp_path / "photo.tif")
  with Image.open(output) as image:
    np.testing.assert_array_equal(np.asarray(image), samples)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_reversed_bits_are_read_at_16_bits(tmp_path, compression):
  samples = random_samples(3, 16)
  source = tmp_path / "photo.tif"
  write_layout(source, samples, COMPRESSIONS[compression], False, 99, None)
  data = source.read_bytes()
  directory = read_first(data)
  (offset,), (count,) = directory.numbers(273), directory.numbers(279)
  block = np.packbits(np.unpackbits(np.frombuffer(data[offset : offset + count], np.uint8)).reshape(-1, 8)[:, ::-1])
  directory.put(266, 3, 2)
  directory.put(273, 4, 8 + len(directory.to_bytes(8)))
  source.write_bytes(directory.to_file() + block.tobytes())
  photo, output = pass_through(source)
  np.testing.assert_array_equal(photo.samples, samples)
  np.testing.assert_array_equal(read_photo(output).samples, samples)


def test_tiff_turned_sideways_turns_its_tiles(tmp_path):
  samples = random_samples(3, 16)
  tifffile.imwrite(
    tmp_path / "turned.tif", samples, photometric="rgb", tile=(16, 32), compression="zlib",
    extratags=[(274, 3, 1, 6, True)], metadata=None,
  )  # fmt: skip
  _, output = pass_through(tmp_path / "turned.tif")
  np.testing.assert_array_equal(tifffile.imread(output), np.rot90(samples, -1))
  assert storage_of(output)[3] == (32, 16)


@pytest.mark.parametrize("compression", ["jpeg", "group4"])
def test_tiff_whose_compression_is_not_written_becomes_deflate_and_says_so(tmp_path, compression):
  image = Image.fromarray(smooth()) if compression == "jpeg" else Image.fromarray(smooth()[..., 0] > 99)
  image.save(tmp_path / "photo.tif", compression=compression)
  photo, output = pass_through(tmp_path / "photo.tif")
  assert len(photo.warnings) == 1 and "written with deflate" in photo.warnings[0]
  assert storage_of(output)[1] == DEFLATE
  np.testing.assert_array_equal(read_photo(output).samples, photo.samples)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_truncated_block_is_refused(tmp_path, compression):
  samples = np.random.default_rng(0).integers(0, 2**16, (32, 32, 3)).astype(np.uint16)
  write_layout(tmp_path / "photo.tif", samples, COMPRESSIONS[compression], False, 8, None)
  whole = (tmp_path / "photo.tif").read_bytes()
  for length in (len(whole) // 2, len(whole) - 200):
    (tmp_path / "cut.tif").write_bytes(whole[:length])
    with pytest.raises(UserError, match=r"cut\.tif"):
      read_photo(tmp_path / "cut.tif")
