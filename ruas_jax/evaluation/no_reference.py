"""Metrics of an enhanced photograph without a reference: they measure the damage by comparison with the input.

Images are RGB [H, W, 3] of one size, uint8 or float in [0, 1], which is rounded once to the nearest of 256 levels, as
in `ruas_jax.evaluation.metrics`. Lower is better for all metrics except the brightness. No metric says that a picture
is
good: an image that stays dark has the best value of most.
"""

import numpy as np
from scipy import ndimage
from skimage import color, transform

from ruas_jax.errors import UserError
from ruas_jax.evaluation.metrics import to_uint8

_ORDER_SIDE = 50  # length of the short side, as in Wang et al.
_BLOCK = 16
_SMOOTHING = 2.0
_FLAT_SHARE = 0.1


def no_reference(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
  """All metrics of a photograph and its enhancement, and the mean brightness of the result in [0, 1].

  Raises:
    UserError: the sizes differ, the images are smaller than one block, or the values are not an image.
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

  The lightness is the maximum of the channels, reduced so that the short side has 50 pixels (never enlarged). A pair
  (p, q) is an error if `L(p) >= L(q)` holds before and not after, or the reverse. The published metric is the number of
  errors per pixel, which is this share times the number of pixels.
  """
  before, after = (_small_lightness(image).ravel() for image in _same_size(before, after))
  errors = sum(np.count_nonzero((before[index] >= before) != (after[index] >= after)) for index in range(before.size))
  return float(errors / before.size**2)


def newly_white_share(before: np.ndarray, after: np.ndarray) -> float:
  """Share of the pixels that are 255 in all channels after the enhancement, but not before."""
  before, after = _same_size(before, after)
  return float(np.mean((after == 255).all(axis=-1) & ~(before == 255).all(axis=-1)))


def clipped_share(image: np.ndarray) -> float:
  """Share of pixels that are 255 in at least one channel."""
  return float(np.mean((to_uint8(image) == 255).any(axis=-1)))


def flat_noise(before: np.ndarray, after: np.ndarray) -> float:
  """Standard deviation of the noise in flat regions of the result, in levels of 255.

  Of the blocks of 16x16 pixels, the flat tenth are those where the smoothed photograph (grey, Gaussian of 2 pixels)
  varies least relative to its brightness: by its standard deviation divided by its mean plus one level. Blocks that are
  entirely 0 or entirely 255 in the photograph hold no noise and are ignored. A plane is subtracted from each block of
  the result, so that shading does not count as noise; the rest counts, fine or coarse. The metric is the median over
  the flat blocks of the root mean square over the channels of the standard deviation; 0 if there are no flat blocks.
  """
  before, after = _same_size(before, after)
  if min(before.shape[:2]) < _BLOCK:
    height, width = before.shape[:2]
    raise UserError(
      f"an image of {width}x{height} pixels is smaller than one block of {_BLOCK}x{_BLOCK}, which measuring noise needs"
    )
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
  """Distance of the mean chroma (a*, b*) of CIELAB from grey. Scenes are not grey, so use it only to compare
  methods."""
  return float(np.linalg.norm(_mean_chroma(to_uint8(image) / 255)))


def colour_cast_shift(before: np.ndarray, after: np.ndarray) -> float:
  """Distance between the mean chroma (a*, b*) of the result and that of the photograph with the same brightness.

  Brightening increases chroma. So the photograph is first multiplied by the gain that makes its mean that of the
  result, and clipped at one. Only the additional shift counts.
  """
  before, after = (image / 255 for image in _same_size(before, after))
  brightened = np.clip(before * (after.mean() / max(before.mean(), 1e-6)), 0, 1)
  return float(np.linalg.norm(_mean_chroma(after) - _mean_chroma(brightened)))


def _same_size(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  before, after = to_uint8(before), to_uint8(after)
  if before.shape != after.shape or before.ndim != 3 or before.shape[-1] != 3:
    raise UserError(f"images of shapes {before.shape} and {after.shape} must have the same shape [H, W, 3]")
  return before, after


def _small_lightness(image: np.ndarray) -> np.ndarray:
  lightness = image.max(axis=-1).astype(np.float64)
  scale = min(1.0, _ORDER_SIDE / min(lightness.shape))
  size = [round(length * scale) for length in lightness.shape]
  smaller = np.asarray(transform.resize(lightness, size, anti_aliasing=scale < 1))
  return np.round(smaller)  # equal levels stay equal


def _blocks(image: np.ndarray) -> np.ndarray:
  """[H, W, C] as complete blocks [blocks, pixels, C]; the rest at the lower and right border is dropped."""
  rows, columns = (length // _BLOCK for length in image.shape[:2])
  cut = image[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK, -1)
  return cut.transpose(0, 2, 1, 3, 4).reshape(rows * columns, _BLOCK**2, -1)


def _mean_chroma(image: np.ndarray) -> np.ndarray:
  return color.rgb2lab(image)[..., 1:].mean(axis=(0, 1))
