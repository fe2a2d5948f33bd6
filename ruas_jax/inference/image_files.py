"""Reads a photograph for enhancement and writes the result in the photograph's own form.

`read_photo` gives upright samples as they are stored, uint8 or uint16 `[H, W, C]`, and `Photo.values` any window of
them as float32 RGB in [0, 1]; `write_photo` takes samples of that form and writes the format, grey or colour, bit
depth, alpha plane, ICC profile and metadata of the source. PNG, TIFF and BMP are lossless both ways.

What changes on purpose: palettes and single transparent colours become RGB(A), fewer than 8 bits become 8, CMYK becomes
RGB (through the embedded profile to sRGB where there is one), TIFF is written uncompressed, JPEG at quality 95 without
chroma subsampling, WebP lossless where the source was and at quality 95 otherwise. The EXIF orientation is applied once
and reset; the EXIF thumbnail, which would show the photograph before enhancement, is unlinked. Of a multi-picture JPEG
the main picture is kept. Refused: several pages or frames, float and 32-bit samples, and what the libraries read or
write in part only (BMP with alpha, 16-bit TIFF compressed with LZW, BigTIFF).
"""

import functools
import io
import logging
import os
import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import png
import tifffile
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, UnidentifiedImageError

from ruas_jax.data.sources import IMAGE_SUFFIXES
from ruas_jax.errors import UserError
from ruas_jax.files import write_atomically

_QUALITY = 95
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # TIFF is known by its first bytes
_ORIENTATION = ExifTags.Base.Orientation
_XMP_TAG, _ICC_TAG = 700, 34675

# EXIF orientation -> the turn that makes [H, W, C] samples upright.
_TURNS = {
  1: lambda samples: samples,
  2: lambda samples: samples[:, ::-1],
  3: lambda samples: samples[::-1, ::-1],
  4: lambda samples: samples[::-1],
  5: lambda samples: samples.swapaxes(0, 1),
  6: lambda samples: samples[::-1].swapaxes(0, 1),
  7: lambda samples: samples[::-1, ::-1].swapaxes(0, 1),
  8: lambda samples: samples[:, ::-1].swapaxes(0, 1),
}

# Chunks that say something about the picture rather than about how its samples are stored.
_PNG_METADATA = {b"cHRM", b"cICP", b"gAMA", b"iCCP", b"iTXt", b"pHYs", b"sRGB", b"tEXt", b"tIME", b"zTXt"}
# TIFF tags that say how samples are stored: the writer sets its own. The ICC profile travels separately.
_TIFF_STORAGE = {273, 274, *range(277, 282), 284, *range(288, 294), 301, 317, *range(320, 348), *range(512, 533)}
_TIFF_STORAGE |= {*range(254, 267), _ICC_TAG}
# What tifffile reads on its own.
_TIFF_COMPRESSIONS = (tifffile.COMPRESSION.NONE, tifffile.COMPRESSION.ADOBE_DEFLATE, tifffile.COMPRESSION.DEFLATE)


class _Refused(Exception):
  """A sound file of a kind that could not be written back faithfully; the message says which."""


@dataclass(frozen=True, eq=False)
class Photo:
  """A photograph, and what is needed to write another picture in its form.

  Attributes:
    samples: uint8 or uint16 [H, W, C], upright: grey or RGB, then alpha where the file has it.
    path: the file it was read from.
    encode: makes the bytes of a file out of other samples of that form.
  """

  samples: np.ndarray = field(repr=False)
  path: Path
  encode: Callable[[np.ndarray], bytes] = field(repr=False)

  @property
  def colours(self) -> int:
    """How many channels of the samples are no alpha: 1 for a grey photograph, else 3."""
    return 1 if self.samples.shape[-1] <= 2 else 3

  def values(self, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
    """A window as float32 [h, w, 3] in [0, 1]; a grey photograph has three equal channels."""
    colour = self.samples[rows, columns, : self.colours]
    scaled = colour.astype(np.float32) / np.float32(np.iinfo(colour.dtype).max)
    return np.repeat(scaled, 3, axis=-1) if self.colours == 1 else scaled

  def to_levels(self, values: np.ndarray) -> np.ndarray:
    """Enhanced values of any window, finite float [h, w, 3], as samples [h, w, colours]: clipped to [0, 1] and rounded
    once to the nearest level. A grey photograph gets the mean of the three channels: all three estimate the same
    quantity, and their mean is exact where they agree."""
    values = np.asarray(values, np.float32)
    values = values.mean(axis=-1, keepdims=True) if self.colours == 1 else values
    return np.rint(np.clip(values, 0, 1) * np.iinfo(self.samples.dtype).max).astype(self.samples.dtype)


def collect_inputs(inputs: Iterable[str | os.PathLike]) -> list[tuple[Path, Path]]:
  """Lists the photographs among files and folders, each with the relative path of its output.

  A folder stands for the images directly inside it, in the order of their names, hidden files left out. Its folders are
  not entered, so that an output folder inside the input folder is never read back.

  Args:
    inputs: files and folders.

  Returns:
    `(source, relative output path)` pairs; the output keeps the name of the source.

  Raises:
    UserError: an input that does not exist, is no supported image, or is a folder without one; two of one output name.
  """
  sources = []
  for entry in map(Path, inputs):
    if entry.is_dir():
      found = sorted(path for path in entry.iterdir() if _is_image(path) and not path.name.startswith("."))
      if not found:
        raise UserError(f"{entry}: the folder holds no image ({', '.join(IMAGE_SUFFIXES)})")
      sources += found
    elif not entry.is_file():
      raise UserError(f"{entry}: no such file or folder")
    elif not _is_image(entry):
      raise UserError(f"{entry}: not a supported image ({', '.join(IMAGE_SUFFIXES)})")
    else:
      sources.append(entry)
  outputs = {}
  for source in sources:
    other = outputs.setdefault(source.name, source)
    if other.resolve() != source.resolve():
      raise UserError(f"{other} and {source} would both be written as {source.name}: give them separate folders")
  return [(source, Path(name)) for name, source in outputs.items()]


def read_photo(path: str | os.PathLike) -> Photo:
  """Reads a photograph at its full precision, upright.

  Args:
    path: a PNG, JPEG, WebP, TIFF or BMP file; what it holds decides, not its suffix.

  Returns:
    The `Photo`.

  Raises:
    UserError: a file that is missing, damaged, cut short or of a kind that could not be written back faithfully.
  """
  path = Path(path)
  try:
    samples, encode = _decode(path.read_bytes())
  except FileNotFoundError as error:
    raise UserError(f"{path}: no such file") from error
  except UnidentifiedImageError as error:
    raise UserError(f"{path}: not a readable PNG, JPEG, WebP, TIFF or BMP image") from error
  except _Refused as error:
    raise UserError(f"{path}: {error}") from error
  except Image.DecompressionBombError as error:
    raise UserError(f"{path}: more than {2 * Image.MAX_IMAGE_PIXELS} pixels are not supported") from error
  except OSError as error:
    raise UserError(f"{path}: cannot read the image, it may be cut short: {error.strerror or error}") from error
  except Exception as error:  # the decoders meet damaged files with exceptions of many kinds
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    raise UserError(f"{path}: cannot read the image, it may be damaged or cut short ({cause})") from error
  return Photo(samples, path, encode)


def write_photo(path: str | os.PathLike, samples: np.ndarray, photo: Photo, *, overwrite: bool = False) -> None:
  """Writes enhanced samples in the form of the photograph they were made from, whole or not at all.

  Args:
    path: the file to write; folders on the way are made. It keeps the suffix of the photograph.
    samples: of the shape and type of `photo.samples`, alpha included.
    photo: what `read_photo` returned.
    overwrite: replace an existing output. The photograph itself is never replaced.

  Raises:
    UserError: an existing output, or a path that cannot be written.
  """
  path = Path(path)
  if (samples.shape, samples.dtype) != (photo.samples.shape, photo.samples.dtype):
    raise ValueError(
      f"{samples.dtype} {samples.shape} cannot be written as {photo.samples.dtype} {photo.samples.shape}"
    )
  if path.suffix.lower() != photo.path.suffix.lower():
    raise UserError(f"{path}: the output keeps the format of the input, so its name must end in {photo.path.suffix}")
  if path.exists():
    if photo.path.exists() and path.samefile(photo.path):
      raise UserError(f"{path}: the output would replace the input")
    if not overwrite:
      raise UserError(f"{path}: already exists (--overwrite replaces it)")
  try:
    data = photo.encode(samples)
  except (OSError, TypeError, ValueError, struct.error) as error:  # metadata that can be read but not written
    raise UserError(f"{path}: cannot be written ({error})") from error
  write_atomically(path, data)


def _is_image(path: Path) -> bool:
  return path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES


def _decode(data: bytes) -> tuple[np.ndarray, Callable[[np.ndarray], bytes]]:
  """Returns upright uint8 or uint16 [H, W, C] samples, alpha last, and what encodes others in the same form."""
  if data[:4] in (b"II*\0", b"MM\0*"):
    return _decode_tiff(data)
  with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
      raise _Refused(f"it holds {image.n_frames} frames, and only single pictures can be enhanced")
    if image.format == "PNG":
      return _decode_png(image, data)
    samples, profile = _pillow_samples(image)
    orientation = _orientation(image)
    exif, xmp = _upright_exif(image.info.get("exif", b"")), _upright_xmp(image.info.get("xmp"))
    options = {"icc_profile": profile, "exif": exif, "xmp": xmp}
    if image.format == "BMP":
      if samples.shape[-1] == 4:
        raise _Refused("BMP files with alpha are not supported")
      options = {"dpi": image.info.get("dpi")}
    elif image.format == "WEBP":
      options |= {"lossless": _is_lossless_webp(data), "quality": _QUALITY, "exact": True}
    else:
      options |= {
        "quality": _QUALITY,
        "subsampling": 0,
        "dpi": image.info.get("dpi"),
        "comment": image.info.get("comment"),
      }
    format_name = "JPEG" if image.format == "MPO" else image.format
    given = {name: value for name, value in options.items() if value not in (None, b"")}
    return _upright(samples, orientation), functools.partial(_encode_pillow, format=format_name, **given)


def _pillow_samples(image: Image.Image) -> tuple[np.ndarray, bytes | None]:
  """Decodes up to 8 bits per sample; returns [H, W, C] samples and the ICC profile that describes them."""
  profile = image.info.get("icc_profile")
  if image.mode == "CMYK":
    if profile:
      source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
      image = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    else:
      image = image.convert("RGB")
    return np.asarray(image), None
  if image.mode in ("1", "L", "LA"):
    mode = "LA" if image.has_transparency_data else "L"
  elif image.mode in ("P", "PA", "RGB", "RGBA", "YCbCr"):
    mode = "RGBA" if image.has_transparency_data else "RGB"
  else:
    raise _Refused(f"pictures of mode {image.mode} are not supported")
  samples = np.asarray(image if image.mode == mode else image.convert(mode))
  return samples.reshape(*samples.shape[:2], -1), profile


def _encode_pillow(samples: np.ndarray, *, format: str, **options) -> bytes:
  buffer = io.BytesIO()
  Image.fromarray(samples.squeeze(-1) if samples.shape[-1] == 1 else samples).save(buffer, format, **options)
  return buffer.getvalue()


def _decode_png(image: Image.Image, data: bytes) -> tuple[np.ndarray, Callable[[np.ndarray], bytes]]:
  """Copies the metadata chunks; leaves to Pillow the samples that it reads rightly."""
  kept = {b"IHDR", *_PNG_METADATA}  # reading the others checks their checksums
  chunks = [(name, bytes(content)) for name, content in png.Reader(bytes=data).chunks() if name in kept]
  orientation = _orientation(image)
  exif = image.info.get("exif") or (image.getexif().tobytes() if orientation != 1 else b"")
  metadata = [
    (name, _upright_xmp(content))
    for name, content in chunks
    # An old way to store EXIF as text; what it holds is written as the proper chunk.
    if name in _PNG_METADATA and not content.startswith((b"Raw profile type exif\0", b"Raw profile type APP1\0"))
  ]
  if exif:
    metadata.append((b"eXIf", _upright_exif(exif).removeprefix(b"Exif\0\0")))
  # Pillow narrows 16-bit colour to 8 bits, and compares a transparent grey of 2 or 4 bits with levels scaled to 8.
  by_pillow = chunks[0][1][8] != 16 and not (image.mode == "L" and "transparency" in image.info)
  samples = _pillow_samples(image)[0] if by_pillow else _pypng_samples(data)
  return _upright(samples, orientation), functools.partial(_encode_png, metadata=metadata)


def _pypng_samples(data: bytes) -> np.ndarray:
  width, height, rows, info = png.Reader(bytes=data).read()
  bits = max(8, info["bitdepth"])
  samples = np.stack([np.asarray(row, f"uint{bits}") for row in rows]).reshape(height, width, info["planes"])
  scaled = samples * ((2**bits - 1) // (2 ** info["bitdepth"] - 1))
  if "transparent" in info:
    opaque = (samples != np.asarray(info["transparent"])).any(axis=-1, keepdims=True)
    scaled = np.concatenate([scaled, np.where(opaque, 2**bits - 1, 0).astype(samples.dtype)], axis=-1)
  return scaled


def _encode_png(samples: np.ndarray, *, metadata: list[tuple[bytes, bytes]]) -> bytes:
  height, width, channels = samples.shape
  if samples.dtype == np.uint8:
    plain = _encode_pillow(samples, format="PNG")
  else:
    buffer = io.BytesIO()
    writer = png.Writer(width, height, greyscale=channels <= 2, alpha=channels in (2, 4), bitdepth=16)
    writer.write_packed(buffer, (row.tobytes() for row in samples.astype(">u2")))
    plain = buffer.getvalue()
  header, *rest = png.Reader(bytes=plain).chunks()
  buffer = io.BytesIO()
  png.write_chunks(buffer, [header, *metadata, *rest])
  return buffer.getvalue()


def _decode_tiff(data: bytes) -> tuple[np.ndarray, Callable[[np.ndarray], bytes]]:
  """Takes 16-bit samples from tifffile (Pillow narrows colour to 8 bits) and copies the descriptive tags."""
  tifffile.logger().setLevel(logging.CRITICAL)  # what it finds wrong is raised here, in one line
  with tifffile.TiffFile(io.BytesIO(data)) as file:
    page = file.pages.first
    count = sum(not other.is_reduced for other in file.pages)
    if count > 1:
      raise _Refused(f"it holds {count} pages, and only single pictures can be enhanced")
    if page.sampleformat not in (None, tifffile.SAMPLEFORMAT.UINT) or page.bitspersample not in (1, 2, 4, 8, 16):
      raise _Refused("only TIFF files of unsigned integers with 8 or 16 bits per sample are supported")
    exif = Image.Exif()
    exif.load(data)
    orientation = exif.get(_ORIENTATION, 1)
    profile = exif.get(_ICC_TAG)
    if page.bitspersample == 16:
      samples = _upright(_deep_tiff_samples(page), orientation)
    else:
      with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
        samples, profile = _pillow_samples(image)  # Pillow turns TIFF upright itself
  tags = {
    tag: dict(exif.get_ifd(tag)) if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) else exif[tag]
    for tag in exif
    if tag not in _TIFF_STORAGE
  }
  if _XMP_TAG in tags:
    tags[_XMP_TAG] = _upright_xmp(tags[_XMP_TAG])
  return samples, functools.partial(_encode_tiff, tags=tags, profile=profile)


def _deep_tiff_samples(page: tifffile.TiffPage) -> np.ndarray:
  if page.photometric not in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB):
    raise _Refused(f"16-bit TIFF files of kind {getattr(page.photometric, 'name', page.photometric)} are not supported")
  if page.compression not in _TIFF_COMPRESSIONS:
    name = getattr(page.compression, "name", page.compression)
    raise _Refused(f"16-bit TIFF files compressed with {name} are not supported, only plain and deflate ones")
  if tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples:
    raise _Refused("16-bit TIFF files with premultiplied alpha are not supported")
  colours = 1 if page.photometric == tifffile.PHOTOMETRIC.MINISBLACK else 3
  if page.samplesperpixel not in (colours, colours + 1):
    raise _Refused(f"it has {page.samplesperpixel} channels, which is neither grey nor RGB with or without alpha")
  samples = page.asarray()
  if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and samples.ndim == 3:
    samples = np.moveaxis(samples, 0, -1)
  return samples.reshape(page.imagelength, page.imagewidth, page.samplesperpixel).astype(np.uint16)


def _encode_tiff(samples: np.ndarray, *, tags: dict[int, object], profile: bytes | None) -> bytes:
  """One plain strip, its directory put together here: Pillow has no 16-bit colour, tifffile no EXIF directory."""
  height, width, channels = samples.shape
  directory = TiffImagePlugin.ImageFileDirectory_v2()
  for tag, value in tags.items():
    directory[tag] = value.encode("latin-1") if isinstance(value, str) else value  # as Pillow decoded it
  if profile:
    directory[_ICC_TAG] = profile
  if channels in (2, 4):
    directory[TiffImagePlugin.EXTRASAMPLES] = 2  # alpha that is not premultiplied
  directory[TiffImagePlugin.IMAGEWIDTH] = width
  directory[TiffImagePlugin.IMAGELENGTH] = height
  directory[TiffImagePlugin.BITSPERSAMPLE] = (8 * samples.itemsize,) * channels
  directory[TiffImagePlugin.SAMPLESPERPIXEL] = channels
  directory[TiffImagePlugin.COMPRESSION] = 1
  directory[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 1 if channels <= 2 else 2
  directory[TiffImagePlugin.PLANAR_CONFIGURATION] = 1
  directory[TiffImagePlugin.ROWSPERSTRIP] = height
  directory[TiffImagePlugin.STRIPBYTECOUNTS] = samples.nbytes
  directory[TiffImagePlugin.STRIPOFFSETS] = 0  # counted from the end of the directory, which its writer adds
  buffer = io.BytesIO()
  directory.save(buffer)
  return buffer.getvalue() + samples.astype(samples.dtype.newbyteorder("<")).tobytes()


def _upright(samples: np.ndarray, orientation: int) -> np.ndarray:
  return np.ascontiguousarray(_TURNS.get(orientation, _TURNS[1])(samples))


def _orientation(image: Image.Image) -> int:
  try:
    return image.getexif().get(_ORIENTATION, 1)
  except Exception:  # damaged EXIF turns nothing, here as in any viewer
    return 1


def _upright_exif(exif: bytes) -> bytes:
  """Resets the orientation, turns the noted size, unlinks the thumbnail; in place, which maker notes depend on."""
  start = 6 if exif.startswith(b"Exif\0\0") else 0
  block = bytearray(exif[start:])
  order = "<" if block.startswith(b"II") else ">"

  def number(kind: str, position: int) -> int:
    return struct.unpack_from(order + kind, block, position)[0]

  def entries(directory: int) -> dict[int, int]:
    end = directory + 2 + 12 * number("H", directory)
    return {number("H", position): position for position in range(directory + 2, end, 12)} | {-1: end}

  try:
    tags = entries(number("I", 4))
    struct.pack_into(f"{order}I", block, tags[-1], 0)  # the link to the thumbnail's directory
    if _ORIENTATION in tags:
      sideways = number("H", tags[_ORIENTATION] + 8) in (5, 6, 7, 8)
      struct.pack_into(f"{order}H", block, tags[_ORIENTATION] + 8, 1)
      details = entries(number("I", tags[ExifTags.IFD.Exif] + 8)) if ExifTags.IFD.Exif in tags else {}
      sides = [details.get(tag) for tag in (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)]
      if sideways and None not in sides:
        width, height = (slice(position + 2, position + 12) for position in sides)
        block[width], block[height] = block[height], block[width]
  except struct.error:  # damaged EXIF is passed on as it is
    return exif
  return exif[:start] + bytes(block)


def _upright_xmp(xmp: bytes | None) -> bytes | None:
  return xmp and re.sub(rb'(tiff:Orientation(?:="|>))[2-8]', rb"\g<1>1", xmp)


def _is_lossless_webp(data: bytes) -> bool:
  position = 12
  while position + 8 <= len(data):
    name, size = struct.unpack_from("<4sI", data, position)
    if name in (b"VP8L", b"VP8 "):
      return name == b"VP8L"
    position += 8 + size + size % 2
  return False
