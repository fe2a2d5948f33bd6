"""Checks of ICC profiles, and conversion of CMYK and LAB images to RGB."""

import io
from typing import Any, cast

import numpy as np
from PIL import Image, ImageCms

from ruas_jax.photos.photo import Refused, count_colours

# Colour spaces that a profile may have, by number of colours. A grey picture with an RGB profile is common.
_FITTING = {1: ("GRAY", "RGB"), 3: ("RGB",), 4: ("CMYK",)}
SRGB_PRIMARIES = (1, 2, 5, 6, 7)  # of ITU-T H.273: those of sRGB, unknown ones, and two that differ little
_HDR_CURVES = {16: "PQ", 18: "HLG"}  # transfer curves of ITU-T H.273
_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}  # colour space -> Pillow's mode


def checked_profile(profile: bytes, samples: np.ndarray) -> tuple[bytes, list[str]]:
  """The profile of samples [H, W, C] and no warning; or no profile and a warning that says why it is left out."""
  if not profile:
    return b"", []
  fault = _to_srgb(profile, count_colours(samples))
  return (b"", [f"its ICC profile {fault} and is left out"]) if isinstance(fault, str) else (profile, [])


def to_rgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, list[str]]:
  """A CMYK or LAB image as sRGB, and warnings. CMYK is converted with its profile if the profile is usable."""
  if image.mode == "LAB":  # device-independent colours, which need no profile
    target = ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), target, "LAB", "RGB")
    return _transformed(image, transform), ["LAB is written as RGB (sRGB)"]
  transform = _to_srgb(profile, 4) if profile else "is missing"
  if isinstance(transform, str):
    warning = f"CMYK is written as RGB, converted without a profile (its ICC profile {transform}): colours may differ"
    return image.convert("RGB"), [warning]
  return _transformed(image, transform), ["CMYK is written as RGB (sRGB)"]


def refuse_hdr(profile: bytes, transfer: int = 0) -> None:
  """Raises Refused for a picture whose transfer curve, by its number in H.273 or by its ICC profile, is one of HDR."""
  tag = profile.find(b"cicp\0\0\0\0")
  for curve in (transfer, profile[tag + 9] if 0 <= tag < len(profile) - 9 else 0):
    if curve in _HDR_CURVES:
      raise Refused(f"HDR pictures ({_HDR_CURVES[curve]}) are not supported")


def to_srgb(samples: np.ndarray, profile: bytes) -> tuple[np.ndarray, list[str]]:
  """Samples [H, W, C] of a profile as sRGB, as far as they can be converted (8-bit colour), and what is lost."""
  transform = _to_srgb(profile, count_colours(samples)) if profile else None
  if transform is None:
    return samples, []
  if isinstance(transform, str):
    return samples, ["the colour profile"]
  levels = np.linspace(0, 255, 6).astype(np.uint8)
  if count_colours(samples) == 1:
    same = levels[None, :, None].repeat(3, axis=-1)
    probe = same if transform.input_mode == "RGB" else levels[None]
  else:
    probe = same = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
  seen = np.asarray(_transformed(Image.fromarray(probe), transform)).astype(int)
  if np.abs(seen - same).max() <= 1:
    return samples, []
  if count_colours(samples) == 1 or samples.dtype != np.uint8:
    return samples, ["the colour profile"]
  colours = np.asarray(_transformed(Image.fromarray(np.ascontiguousarray(samples[..., :3])), transform))
  return np.concatenate([colours, samples[..., 3:]], axis=-1), ["its colour space (converted to sRGB)"]


def _transformed(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
  return cast(Image.Image, ImageCms.applyTransform(image, transform))  # None only where it changes `image` itself


def _to_srgb(profile: bytes, colours: int) -> ImageCms.ImageCmsTransform | str:
  """The transform from a profile with this number of colours to sRGB, or text that says what is wrong with the
  profile."""
  try:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    content: Any = source.profile
    space = content.xcolor_space.strip()
    if space not in _FITTING[colours]:
      return f"describes {space}"
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), _MODES[space], "RGB")
  except (OSError, ImageCms.PyCMSError):
    return "is damaged"
