"""TIFF files. All descriptive tags, the compression, strips or tiles, and the byte order are kept.

Pillow decodes up to 8 bits, with any compression. It receives a directory with only the tags that describe the storage
of samples, so that damage in other tags does not stop it.
"""

import numpy as np
from PIL import Image

from ruas_jax.photos import colour, tiff_blocks
from ruas_jax.photos.metadata import orientation_of, upright_directory, upright_xmp
from ruas_jax.photos.photo import Metadata, Photo, Refused
from ruas_jax.photos.samples import check_size, from_pillow, upright
from ruas_jax.photos.tiff_blocks import (
  BITS,
  CHANNELS,
  COMPRESSION,
  EXTRA_SAMPLES,
  LENGTH,
  LOSSLESS,
  PHOTOMETRIC,
  WIDTH,
  Layout,
)
from ruas_jax.photos.tiff_directory import (
  BYTE,
  IPTC,
  ORIENTATION,
  PROFILE,
  RATIONAL,
  SHORT,
  UNDEFINED,
  XMP,
  Directory,
  header,
  read_first,
  read_pages,
  with_tags_alone,
)

_KIND_OF_PAGE, _SAMPLE_FORMAT = 254, 339
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_PHOTOSHOP, _PHOTOSHOP_LAYERS = 34377, 37724
# Tags that describe the storage of samples; the writer sets them.
_STORAGE = {273, *range(277, 282), 284, *range(288, 294), 301, 317, *range(320, 348), *range(512, 533)}
_STORAGE |= set(range(254, 267))
_SUB_DIRECTORIES = 330
_GREY, _RGB = 1, 2
_NAMES = {
  0: "MINISWHITE",
  3: "PALETTE",
  5: "CMYK",
  6: "YCBCR",
  8: "CIELAB",
  9: "ICCLAB",
  32803: "CFA",
  34892: "LINEAR_RAW",
}
_COMPRESSIONS = {6: "JPEG", 7: "JPEG", 34712: "JPEG 2000", 34925: "LZMA", 50000: "ZSTD", 50001: "WebP"}
_COMPRESSIONS |= dict.fromkeys((2, 3, 4), "fax codes")
_PER_INCH = {2: 1, 3: 2.54}  # TIFF's resolution unit -> factor to make it per inch; unit 1 means no unit


def read_tiff(data: bytes) -> tuple[np.ndarray, Layout, Metadata, list[str]]:
  """Samples [H, W, C], upright; how they are stored; metadata; and warnings."""
  pages = list(read_pages(data))
  full = [page for page in pages if not page.number(_KIND_OF_PAGE, 0) & 1]
  if len(full) > 1:
    raise Refused(f"it holds {len(full)} pages, but only single pictures can be enhanced")
  if not pages:
    raise ValueError("it has no directory")
  page = (full or pages)[0]
  bits, kinds = set(page.numbers(BITS, (1,))), set(page.numbers(_SAMPLE_FORMAT, (1,)))
  if kinds != {1} or len(bits) > 1 or not bits <= {1, 2, 4, 8, 16}:
    raise Refused("only TIFF files of unsigned integers with 8 or 16 bits per sample are supported")
  xmp, profile = page.content(XMP), page.content(PROFILE)
  orientation = orientation_of(page, xmp)
  layout = Layout.of(page, sideways=orientation >= 5)
  if bits == {16}:
    samples = _read_deep(data, page)
    profile, warnings = colour.checked_profile(profile, samples)
  else:
    stripped = with_tags_alone(data, page, _STORAGE - {_SUB_DIRECTORIES})
    with Image.open(stripped, formats=("TIFF",)) as image:
      samples, profile, warnings = from_pillow(image, profile)
  if page.damaged:
    warnings.append("some of its tags are damaged and left out")
  if _PHOTOSHOP_LAYERS in page.entries:
    warnings.append("Photoshop's layers are left out, because they show the picture before enhancement")
  compression = page.number(COMPRESSION, 1)
  if compression not in LOSSLESS:
    name = _COMPRESSIONS.get(compression, f"kind {compression}")
    warnings.append(f"it is compressed with {name}; the result is written with deflate, which is lossless")
  tags = upright_directory(page.without(_STORAGE | {_PHOTOSHOP_LAYERS}), orientation)
  if not profile:
    tags = tags.without({PROFILE})
  if xmp:
    xmp = upright_xmp(xmp)
    tags.entries[XMP] = tags.entries[XMP]._replace(value=xmp)
  return upright(samples, orientation), layout, _metadata(tags, xmp, profile), warnings


def encode_tiff(samples: np.ndarray, photo: Photo) -> bytes:
  """A TIFF file with the tags of the photograph and, if the photograph was a TIFF, with its layout."""
  layout = photo.storage if isinstance(photo.storage, Layout) else Layout()
  tags = photo.metadata.native
  directory = tags.without(set()) if isinstance(tags, Directory) else _from_metadata(photo.metadata)
  layout = Layout(directory.order, layout.compression, layout.differences, layout.rows, layout.tile)
  height, width, channels = samples.shape
  if channels in (2, 4):
    directory.put(EXTRA_SAMPLES, SHORT, 2)  # alpha that is not premultiplied
  directory.put(WIDTH, tiff_blocks.LONG, width)
  directory.put(LENGTH, tiff_blocks.LONG, height)
  directory.put(BITS, SHORT, *(8 * samples.itemsize,) * channels)
  directory.put(CHANNELS, SHORT, channels)
  directory.put(PHOTOMETRIC, SHORT, _GREY if channels <= 2 else _RGB)
  blocks = tiff_blocks.pack(samples, layout)
  counts = [len(block) for block in blocks]
  tiff_blocks.describe(directory, samples, layout, counts)
  start = 8 + len(directory.to_bytes(8))
  tiff_blocks.move(directory, layout, counts, start)
  return b"".join([header(directory.order, 8), directory.to_bytes(8), *blocks])


def _read_deep(data: bytes, page: Directory) -> np.ndarray:
  photometric, compression = page.number(PHOTOMETRIC, _GREY), page.number(COMPRESSION, 1)
  if photometric not in (_GREY, _RGB):
    raise Refused(f"16-bit TIFF files of kind {_NAMES.get(photometric, photometric)} are not supported")
  if compression not in LOSSLESS:
    name = _COMPRESSIONS.get(compression, compression)
    raise Refused(
      f"16-bit TIFF files compressed with {name} are not supported, only deflate, LZW, PackBits and no compression"
    )
  if 1 in page.numbers(EXTRA_SAMPLES):
    raise Refused("16-bit TIFF files with premultiplied alpha are not supported")
  colours, channels = 1 if photometric == _GREY else 3, page.number(CHANNELS, 1)
  if channels not in (colours, colours + 1):
    raise Refused(f"it has {channels} channels, but grey or RGB, with or without alpha, is needed")
  check_size(page.number(WIDTH, 0), page.number(LENGTH, 0))
  return tiff_blocks.read_deep(data, page)


def _metadata(tags: Directory, xmp: bytes, profile: bytes) -> Metadata:
  described = tags.without({XMP, PROFILE, IPTC, _PHOTOSHOP})
  resolution = [tags.number(tag, 0) for tag in (_X_RESOLUTION, _Y_RESOLUTION)]
  each = _PER_INCH.get(tags.number(_RESOLUTION_UNIT, 2))
  dpi = (resolution[0] * each, resolution[1] * each) if all(resolution) and each else None
  resolution_only = described.entries.keys() <= {_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT}
  exif = b"" if resolution_only else described.to_file()
  return Metadata(exif=exif, xmp=xmp, profile=profile, iptc=tags.content(IPTC), dpi=dpi, native=tags)


def _from_metadata(metadata: Metadata) -> Directory:
  """The descriptive tags of a TIFF, from a source in another format."""
  directory = read_first(metadata.exif).without(_STORAGE | {ORIENTATION}) if metadata.exif else Directory()
  for tag, kind, content in (
    (XMP, BYTE, metadata.xmp),
    (PROFILE, UNDEFINED, metadata.profile),
    (IPTC, UNDEFINED, metadata.iptc),
  ):
    if content:
      directory.put_bytes(tag, kind, content)
  if metadata.dpi:
    for tag, value in zip((_X_RESOLUTION, _Y_RESOLUTION), metadata.dpi, strict=True):
      directory.put(tag, RATIONAL, round(value * 1000), 1000)
    directory.put(_RESOLUTION_UNIT, SHORT, 2)
  return directory
