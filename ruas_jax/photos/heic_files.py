"""HEIC files, by pillow-heif: 8 bits, or 10 in 16.

The decoder applies the rotation of the container; the orientation in EXIF repeats it and is only reset.
"""

import io
from typing import Any

import numpy as np

from ruas_jax.photos.colour import SRGB_PRIMARIES, checked_profile, refuse_hdr
from ruas_jax.photos.extras import package
from ruas_jax.photos.metadata import plain_exif, read_exif, upright_xmp
from ruas_jax.photos.photo import Metadata, Photo, Refused
from ruas_jax.photos.pillow_files import QUALITY
from ruas_jax.photos.samples import check_size

BITS = 10  # that are written for a deep photograph; the encoder of pillow-heif has no more
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # channels -> pillow-heif's mode
_NCLX = ("color_primaries", "transfer_characteristics", "matrix_coefficients", "full_range_flag")


def read_heic(data: bytes) -> tuple[np.ndarray, dict[str, Any], Metadata, list[str]]:
  """Samples [H, W, C], upright; their bits and how they are stored; metadata; and warnings."""
  file = package("HEIC").HeifFile(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
  if len(file) > 1:
    raise Refused(f"it holds {len(file)} pictures, but only single pictures can be enhanced")
  image = file[0]
  check_size(*image.size)
  info, bits, warnings = image.info, image.info["bit_depth"], []
  nclx, profile = info.get("nclx_profile"), info.get("icc_profile") or b""
  refuse_hdr(profile, nclx["transfer_characteristics"] if nclx else 0)
  if image.premultiplied_alpha:
    raise Refused("HEIC files with premultiplied alpha are not supported")
  if info.get("aux") or info.get("depth_images"):
    warnings.append("only the main picture of the file is kept, not its depth or gain map")
  xmp = info.get("xmp") or b""
  _, exif, faults = read_exif(plain_exif(info.get("exif") or b""), xmp)
  samples = _widened(np.asarray(image), bits)
  profile, others = checked_profile(profile, samples)
  storage = {"bits": bits, "chroma": info.get("chroma") or 444, "nclx": nclx and {name: nclx[name] for name in _NCLX}}
  metadata = Metadata(exif=exif, xmp=upright_xmp(xmp), profile=profile)
  return samples, storage, metadata, warnings + faults + others


def encode_heic(samples: np.ndarray, photo: Photo, quality: int | None) -> bytes:
  """A HEIC file with the subsampling of colour and the colour description of the photograph, if it was one."""
  storage = photo.storage if photo.format == "HEIC" else {"chroma": 444, "nclx": None}
  height, width, channels = samples.shape
  mode = _MODES[channels]
  if samples.dtype == np.uint16:
    mode = {"L": "L;16", "LA": "LA;16"}.get(mode, f"{mode};16")
    # The encoder drops the lower bits, which would darken: the samples are rounded first.
    samples = np.rint(samples * np.float32((2**BITS - 1) / 65535)).astype(np.uint16) << (16 - BITS)
  module = package("HEIC")
  file = module.from_bytes(mode, (width, height), np.ascontiguousarray(samples).tobytes())
  about = {"exif": photo.metadata.exif, "xmp": photo.metadata.xmp, "icc_profile": photo.metadata.profile}
  about |= storage["nclx"] or {}
  buffer = io.BytesIO()
  file.save(
    buffer,
    quality=QUALITY if quality is None else quality,
    chroma=storage["chroma"],
    enc_params={"preset": "fast"},  # the usual "slow" takes more than twice as long for the same size and 0.2 dB
    **{name: value for name, value in about.items() if value != b""},
  )
  return buffer.getvalue()


def lost_outside_heic(photo: Photo) -> list[str]:
  """Names of the information in a HEIC file that no other format can store."""
  nclx = photo.storage["nclx"]
  other = nclx and not photo.metadata.profile and nclx["color_primaries"] not in SRGB_PRIMARIES
  return ["its colour description (primaries of H.273)"] if other else []


def _widened(samples: np.ndarray, bits: int) -> np.ndarray:
  """Samples [H, W] or [H, W, C] of 8 to 16 bits as uint8, or as uint16 over its whole range."""
  samples = samples.reshape(*samples.shape[:2], -1)
  if bits == 8:
    return samples
  return np.rint(samples * np.float32(65535 / (2**bits - 1))).astype(np.uint16)
