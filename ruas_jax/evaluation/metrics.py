"""PSNR and SSIM by one strict protocol for all published numbers.

Images are RGB, [H, W, 3], at the original size: uint8, or float in [0, 1], which is clipped and rounded once to the
nearest uint8 level. There is no cropping, and no scaling by the brightness of the reference.

The field also reports figures "with GT-mean": for them, `with_mean_of` first gives the result the reference's mean
brightness. They measure structure, noise and colour alone, and use the reference, so they are reported beside the
strict ones.
"""

import math

import numpy as np
from skimage.metrics import structural_similarity

from ruas_jax.errors import UserError

PROTOCOL = (
  "RGB at the original size, clipped and rounded once to the nearest of 256 levels; PSNR per image, then the mean; "
  "SSIM with an 11-tap Gaussian window (sigma 1.5), mean over channels, L = 255"
)

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey level (ITU-R BT.601)."""
_WINDOW = 11  # taps of the Gaussian: sigma 1.5, cut off at 3.5 sigma


def to_uint8(image: np.ndarray) -> np.ndarray:
  """Rounds an image to the 256 levels that are compared.

  Args:
    image: float [H, W, 3] in [0, 1], clipped to that range; or uint8, which is returned unchanged.

  Returns:
    uint8 [H, W, 3].

  Raises:
    UserError: a value is not finite, or the type is neither float nor uint8.
  """
  image = np.asarray(image)
  if image.dtype == np.uint8:
    return image
  if image.dtype.kind != "f":
    raise UserError(f"an image of type {image.dtype} is neither float in [0, 1] nor uint8")
  if not np.isfinite(image).all():
    raise UserError("an image has values that are not finite")
  return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def psnr(prediction: np.ndarray, reference: np.ndarray) -> float:
  """Peak signal-to-noise ratio of one image, `10 log10(255² / mean squared error)`.

  Args:
    prediction: [H, W, 3], uint8 or float in [0, 1].
    reference: the same shape.

  Returns:
    Decibels; infinity for equal images, which `finite_or_none` converts for JSON.

  Raises:
    UserError: the sizes differ, or the values are not an image.
  """
  prediction, reference = _comparable(prediction, reference)
  mean_squared_error = np.mean((prediction.astype(np.float64) - reference) ** 2)
  return math.inf if mean_squared_error == 0 else float(10 * np.log10(255**2 / mean_squared_error))


def ssim(prediction: np.ndarray, reference: np.ndarray) -> float:
  """Structural similarity (Wang et al. 2004) of one image, with an 11-tap Gaussian, mean over the channels.

  Args:
    prediction: [H, W, 3], uint8 or float in [0, 1].
    reference: the same shape.

  Returns:
    A number up to 1, the value for equal images.

  Raises:
    UserError: the sizes differ, an image is smaller than the window, or the values are not an image.
  """
  prediction, reference = _comparable(prediction, reference)
  if min(prediction.shape[:2]) < _WINDOW:
    height, width = prediction.shape[:2]
    raise UserError(f"an image of {width}x{height} pixels is smaller than the {_WINDOW}x{_WINDOW} window of SSIM")
  similarity = structural_similarity(
    prediction,
    reference,
    gaussian_weights=True,
    sigma=1.5,
    use_sample_covariance=False,
    data_range=255,
    channel_axis=-1,
  )
  return float(np.asarray(similarity))


def with_mean_of(reference: np.ndarray, prediction: np.ndarray) -> np.ndarray:
  """The prediction, scaled so that its mean grey level is that of the reference: the input of GT-mean figures.

  Args:
    reference: [H, W, 3], uint8 or float in [0, 1].
    prediction: the same shape. Its 256 levels are scaled.

  Returns:
    float64 [H, W, 3] in [0, 1]. A black prediction stays black.

  Raises:
    UserError: the sizes differ, or the values are not an image.
  """
  prediction, reference = _comparable(prediction, reference)
  mean, target = (float((image @ np.array(GREY)).mean()) for image in (prediction, reference))
  return np.clip(prediction * (target / mean if mean else 1.0) / 255, 0, 1)


def finite_or_none(value: float) -> float | None:
  """A number for JSON: infinity and NaN become null."""
  return value if math.isfinite(value) else None


def _comparable(prediction: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  prediction, reference = to_uint8(prediction), to_uint8(reference)
  if prediction.shape != reference.shape or prediction.ndim != 3 or prediction.shape[-1] != 3:
    shapes = f"{prediction.shape} and {reference.shape}"
    raise UserError(f"images of shapes {shapes} cannot be compared: both must have the same shape [H, W, 3]")
  return prediction, reference
