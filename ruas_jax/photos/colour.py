"""Checks of ICC profiles, and conversion of CMYK and LAB images to RGB."""

import io
from typing import Any, cast

import numpy as np
from PIL import Image, ImageCms

from ruas_jax.photos.photo import count_colours

# Colour spaces that a profile may have, by number of colours. A grey picture with an RGB profile is common.
_FITTING = {1: ("GRAY", "RGB"), 3: ("RGB",), 4: ("CMYK",)}
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
