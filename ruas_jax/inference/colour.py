"""ICC profiles that are damaged or do not fit their picture, and pictures of ink or LAB as RGB."""

import io

import numpy as np
from PIL import Image, ImageCms

from ruas_jax.inference.photo import count_colours

# What a profile may describe where the picture has so many colours. A grey picture with an RGB profile is common.
_FITTING = {1: ("GRAY", "RGB"), 3: ("RGB",), 4: ("CMYK",)}


def checked_profile(profile: bytes, samples: np.ndarray) -> tuple[bytes, list[str]]:
  """The profile of samples [H, W, C] and no warning, or no profile and a warning why it is left out."""
  fault = profile and _fault(profile, count_colours(samples))
  return (b"", [f"its ICC profile {fault} and is left out"]) if fault else (profile, [])


def to_rgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, list[str]]:
  """A CMYK or LAB image as sRGB, through its profile where that can be used, and warnings."""
  target = ImageCms.createProfile("sRGB")
  if image.mode == "LAB":  # absolute colours, which need no profile
    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), target, "LAB", "RGB")
    return ImageCms.applyTransform(image, transform), ["LAB is written as RGB (sRGB)"]
  fault = _fault(profile, 4) if profile else "is missing"
  if not fault:
    try:
      source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
      converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
      return converted, ["CMYK is written as RGB (sRGB)"]
    except ImageCms.PyCMSError:
      fault = "is damaged"
  warning = f"CMYK is written as RGB; its ICC profile {fault}, so it was converted without and colours may be off"
  return image.convert("RGB"), [warning]


def _fault(profile: bytes, colours: int) -> str | None:
  """What is wrong with a profile of a picture of so many colours; None where nothing is."""
  try:
    space = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip()
  except (OSError, ImageCms.PyCMSError):
    return "is damaged"
  return None if space in _FITTING[colours] else f"is one of {space} pictures"
