"""Figures of an enhanced photograph that has no reference: what it broke, beside what it was made of.

Images are RGB [H, W, 3] of one size, uint8 or float in [0, 1], which is rounded to the nearest of 256 levels once, as
for every figure (`ruas_jax.evaluation.metrics`). In all figures but the brightness, lower is better; none says that a
picture is good, and an image left as dark as it was has the best of most.
"""

import numpy as np
from scipy import ndimage
from skimage import color, transform

from ruas_jax.errors import UserError
from ruas_jax.evaluation.metrics import to_uint8

_ORDER_SIDE = 50  # of the short side, in Wang et al.
_BLOCK = 16
_SMOOTHING = 2.0
_FLAT_SHARE = 0.1


def no_reference(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
  """All figures of a photograph and its enhancement, with the mean brightness of the result in [0, 1] beside them.

  Raises:
    UserError: different sizes, images smaller than one block, or values that are no image.
  """
  return {
    "brightness": float(np.mean(to_uint8(after)) / 255),
    "lightness_order_error": lightness_order_error(before, after),
    "newly_white_share": newly_white_share(before, after),
    "clipped_share": clipped_share(after),
    "flat_noise": flat_noise(before, after),
    "colour_cast": colour_cast(after),
    "colour_cast_shift": colour_cast_shift(before, after),
  }


def lightness_order_error(before: np.ndarray, after: np.ndarray) -> float:
  """Lightness order error (Wang et al. 2013), as the share in [0, 1] of ordered pairs of pixels.

  The lightness is the maximum of the channels, scaled down so that the short side has 50 pixels (never up). A pair
  (p, q) is an error where `L(p) >= L(q)` holds before and not after, or the reverse. The published figure is the number
  of errors per pixel, which is this share times the number of pixels.
  """
  before, after = (_small_lightness(image).ravel() for image in _same_size(before, after))
  errors = sum(np.count_nonzero((before[index] >= before) != (after[index] >= after)) for index in range(before.size))
  return float(errors / before.size**2)


def newly_white_share(before: np.ndarray, after: np.ndarray) -> float:
  """Share of pixels that are 255 in all channels after and were not before."""
  before, after = _same_size(before, after)
  return float(np.mean((after == 255).all(axis=-1) & ~(before == 255).all(axis=-1)))


def clipped_share(image: np.ndarray) -> float:
  """Share of pixels that are 255 in at least one channel."""
  return float(np.mean((to_uint8(image) == 255).any(axis=-1)))


def flat_noise(before: np.ndarray, after: np.ndarray) -> float:
  """Standard deviation of the noise in flat regions of the result, in levels of 255.

  Of the blocks of 16x16 pixels, the flat tenth is where the smoothed photograph (grey, Gaussian of 2 pixels) changes
  least for its brightness, by its standard deviation over its mean plus one level. Blocks that are wholly 0 or wholly
  255 in the photograph hold no noise and are left out. From a block of the result a plane is taken off, so that shading
  is no noise; what is left counts, fine or blotchy. The figure is the median over the flat blocks of the root mean
  square over the channels of its standard deviation; 0 where there are none.
  """
  before, after = _same_size(before, after)
  if min(before.shape[:2]) < _BLOCK:
    height, width = before.shape[:2]
    raise UserError(f"an image of {width}x{height} pixels holds no block of {_BLOCK}x{_BLOCK} to measure noise in")
  grey = before.mean(axis=-1)
  smooth = _blocks(ndimage.gaussian_filter(grey, _SMOOTHING, mode="nearest")[..., None])[..., 0]
  change = smooth.std(axis=1) / (smooth.mean(axis=1) + 1)
  original = _blocks(before)
  usable = np.ptp(original, axis=(1, 2)) > 0
  usable |= ~np.isin(original[:, 0, 0], (0, 255))
  if not usable.any():
    return 0.0
  flat = usable & (change <= np.quantile(change[usable], _FLAT_SHARE))
  rows, columns = np.indices((_BLOCK, _BLOCK)).reshape(2, -1) - (_BLOCK - 1) / 2
  plane = np.stack([np.ones(_BLOCK**2), rows, columns], axis=1)
  plane /= np.linalg.norm(plane, axis=0)  # its columns are orthogonal
  values = _blocks(after)[flat].astype(np.float64)
  noise = values - plane @ (plane.T @ values)
  variance = np.sum(noise**2, axis=1) / (_BLOCK**2 - plane.shape[1])
  return float(np.median(np.sqrt(variance.mean(axis=-1))))


def colour_cast(image: np.ndarray) -> float:
  """Distance of the mean chroma (a*, b*) of CIELAB from grey. Scenes have colours of their own: compare methods."""
  return float(np.linalg.norm(_mean_chroma(to_uint8(image) / 255)))


def colour_cast_shift(before: np.ndarray, after: np.ndarray) -> float:
  """Distance between the mean chroma (a*, b*) of the result and that of the photograph, brightened as much.

  Brightening by itself stretches chroma; so the photograph is first multiplied by the one gain that brings its mean to
  the result's, before values above one are clipped. Only what goes beyond that counts.
  """
  before, after = (image / 255 for image in _same_size(before, after))
  brightened = np.clip(before * (after.mean() / max(before.mean(), 1e-6)), 0, 1)
  return float(np.linalg.norm(_mean_chroma(after) - _mean_chroma(brightened)))


def _same_size(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  before, after = to_uint8(before), to_uint8(after)
  if before.shape != after.shape or before.ndim != 3 or before.shape[-1] != 3:
    raise UserError(f"images of shapes {before.shape} and {after.shape} are not the same [H, W, 3]")
  return before, after


def _small_lightness(image: np.ndarray) -> np.ndarray:
  lightness = image.max(axis=-1).astype(np.float64)
  scale = min(1.0, _ORDER_SIDE / min(lightness.shape))
  size = [round(length * scale) for length in lightness.shape]
  smaller = np.asarray(transform.resize(lightness, size, anti_aliasing=scale < 1))
  return np.round(smaller)  # to levels: equal ones stay equal


def _blocks(image: np.ndarray) -> np.ndarray:
  """[H, W, C] as whole blocks [blocks, pixels, C]; what is left at the lower and right border is dropped."""
  rows, columns = (length // _BLOCK for length in image.shape[:2])
  cut = image[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK, -1)
  return cut.transpose(0, 2, 1, 3, 4).reshape(rows * columns, _BLOCK**2, -1)


def _mean_chroma(image: np.ndarray) -> np.ndarray:
  return color.rgb2lab(image)[..., 1:].mean(axis=(0, 1))
