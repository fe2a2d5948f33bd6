"""Conversion of Pillow images to samples, and the rotation of samples to upright."""

import math

import numpy as np
from PIL import Image

from ruas_jax.photos import colour
from ruas_jax.photos.photo import Refused

# EXIF orientation -> the transform that makes [H, W, C] samples upright.
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


def check_size(width: int, height: int) -> None:
  """Raises Pillow's error for a picture with more pixels than Pillow allows, before memory is taken for it."""
  if width * height > 2 * (Image.MAX_IMAGE_PIXELS or math.inf):
    raise Image.DecompressionBombError


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
  """Samples [H, W, C] rotated by the EXIF orientation; an unknown orientation changes nothing."""
  return np.ascontiguousarray(_TURNS.get(orientation, _TURNS[1])(samples))


def from_pillow(image: Image.Image, profile: bytes) -> tuple[np.ndarray, bytes, list[str]]:
  """Decodes an image of up to 8 bits per sample.

  Args:
    image: an image in a mode that photographs have.
    profile: its ICC profile, used to convert CMYK; may be empty.

  Returns:
    uint8 samples [H, W, C], their ICC profile, and warnings.
  """
  if image.mode in ("CMYK", "LAB"):
    converted, warnings = colour.to_rgb(image, profile)
    return np.asarray(converted), b"", warnings
  if image.mode in ("1", "L", "LA"):
    mode = "LA" if image.has_transparency_data else "L"
  elif image.mode in ("P", "PA", "RGB", "RGBA", "YCbCr"):
    mode = "RGBA" if image.has_transparency_data else "RGB"
  else:
    raise Refused(f"pictures of mode {image.mode} are not supported")
  samples = np.asarray(image if image.mode == mode else image.convert(mode))
  samples = samples.reshape(*samples.shape[:2], -1)
  return samples, *colour.checked_profile(profile, samples)


def to_pillow(samples: np.ndarray) -> Image.Image:
  """uint8 samples [H, W, C] as an image of mode L, LA, RGB or RGBA."""
  return Image.fromarray(samples.squeeze(-1) if samples.shape[-1] == 1 else samples)
