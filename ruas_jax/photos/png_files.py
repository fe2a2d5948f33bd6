"""PNG files with 8 and 16 bits, with the chunks that describe their picture."""

import io
import zlib

import numpy as np
import png
from PIL import Image

from ruas_jax.photos import colour
from ruas_jax.photos import metadata as exif_and_xmp
from ruas_jax.photos.photo import Metadata, Photo
from ruas_jax.photos.samples import from_pillow, to_pillow, upright

# Chunks that describe the picture; the others describe the storage of its samples.
DESCRIPTIVE = {b"cHRM", b"cICP", b"gAMA", b"iCCP", b"iTXt", b"pHYs", b"sRGB", b"tEXt", b"tIME", b"zTXt"}
_TEXT = (b"iTXt", b"tEXt", b"zTXt")
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_EXIF_AS_TEXT = (b"Raw profile type exif\0", b"Raw profile type APP1\0")
_INCHES_PER_METRE = 1 / 0.0254

Chunks = list[tuple[bytes, bytes]]


def read_png(image: Image.Image, data: bytes) -> tuple[np.ndarray, Metadata, list[str]]:
  """Samples [H, W, C], upright; metadata; and warnings. Pillow decodes the files that it decodes correctly."""
  kept = {b"IHDR", *DESCRIPTIVE}  # the others are read only to check their checksums
  chunks = [(name, bytes(content)) for name, content in png.Reader(bytes=data).chunks() if name in kept]
  xmp = image.info.get("xmp", b"")
  xmp = xmp.encode() if isinstance(xmp, str) else xmp
  profile = image.info.get("icc_profile") or b""
  orientation, exif, warnings = exif_and_xmp.read_exif(_exif(image), xmp)
  if not profile and any(name == b"iCCP" for name, _ in chunks):
    warnings.append("its ICC profile is damaged and is left out")
  # Pillow reduces 16-bit colour to 8 bits, and compares a transparent grey of 2 or 4 bits with levels scaled to 8.
  by_pillow = chunks[0][1][8] != 16 and not (image.mode == "L" and "transparency" in image.info)
  if by_pillow:
    samples, profile, faults = from_pillow(image, profile)
  else:
    samples = _pypng_samples(data)
    profile, faults = colour.checked_profile(profile, samples)
  native = [
    (name, exif_and_xmp.upright_xmp(content))
    for name, content in chunks
    # An old way to store EXIF as text. Its content is written as a proper chunk.
    if name in DESCRIPTIVE and not content.startswith(_EXIF_AS_TEXT) and (profile or name != b"iCCP")
  ]
  metadata = Metadata(
    exif=exif,
    xmp=exif_and_xmp.upright_xmp(xmp),
    profile=profile,
    dpi=image.info.get("dpi"),
    native=native,
  )
  return upright(samples, orientation), metadata, warnings + faults


def encode_png(samples: np.ndarray, photo: Photo) -> bytes:
  """A PNG file with the chunks of the photograph. If the photograph was not a PNG, its metadata become chunks."""
  height, width, channels = samples.shape
  buffer = io.BytesIO()
  if samples.dtype == np.uint8:
    to_pillow(samples).save(buffer, "PNG")
  else:
    writer = png.Writer(width, height, greyscale=channels <= 2, alpha=channels in (2, 4), bitdepth=16)
    writer.write_packed(buffer, (row.tobytes() for row in samples.astype(">u2")))
  header, *rest = png.Reader(bytes=buffer.getvalue()).chunks()
  metadata = photo.metadata
  chunks = metadata.native if photo.format == "PNG" else _as_chunks(metadata)
  if metadata.exif:
    chunks = [*chunks, (b"eXIf", metadata.exif)]
  buffer = io.BytesIO()
  png.write_chunks(buffer, [header, *chunks, *rest])
  return buffer.getvalue()


def lost_outside_png(chunks: Chunks) -> list[str]:
  """Names of the information in these chunks that no other format can store."""
  lost = []
  if any(name in _TEXT and not content.startswith(_XMP_KEYWORD) for name, content in chunks):
    lost.append("PNG text")
  names = {name for name, _ in chunks}
  if b"cICP" in names or (names & {b"gAMA", b"cHRM"} and not names & {b"sRGB", b"iCCP"}):
    lost.append("PNG colour description")
  return lost


def _exif(image: Image.Image) -> bytes:
  """EXIF from its chunk, or from the text that older programs wrote instead."""
  exif = image.info.get("exif")
  if exif is None:
    text = next(
      (image.info[name] for name in ("Raw profile type exif", "Raw profile type APP1") if name in image.info), ""
    )
    try:
      exif = bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
      exif = b""
  return exif_and_xmp.plain_exif(exif)


def _pypng_samples(data: bytes) -> np.ndarray:
  width, height, rows, info = png.Reader(bytes=data).read()
  bits = max(8, info["bitdepth"])
  samples = np.stack([np.asarray(row, f"uint{bits}") for row in rows]).reshape(height, width, info["planes"])
  scaled = samples * ((2**bits - 1) // (2 ** info["bitdepth"] - 1))
  if "transparent" in info:
    opaque = (samples != np.asarray(info["transparent"])).any(axis=-1, keepdims=True)
    scaled = np.concatenate([scaled, np.where(opaque, 2**bits - 1, 0).astype(samples.dtype)], axis=-1)
  return scaled


def _as_chunks(metadata: Metadata) -> Chunks:
  chunks = []
  if metadata.profile:
    chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.profile)))
  if metadata.dpi:
    x, y = (round(value * _INCHES_PER_METRE) for value in metadata.dpi)
    chunks.append((b"pHYs", x.to_bytes(4, "big") + y.to_bytes(4, "big") + b"\1"))
  if metadata.xmp:
    chunks.append((b"iTXt", _XMP_KEYWORD + bytes(4) + metadata.xmp))
  if metadata.comment:
    chunks.append((b"tEXt", b"Comment\0" + metadata.comment.replace(b"\0", b"")))
  return chunks
