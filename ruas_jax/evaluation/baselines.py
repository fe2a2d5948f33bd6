"""Enhancement without learning: the baselines that a learned model should exceed.

Every baseline maps a float image [H, W, 3] in [0, 1] to float32 of the same shape and range. `BASELINES` lists them by
name; `input` is the unchanged image.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage, sparse
from skimage import color, exposure, restoration


def gain_to_mean(image: np.ndarray, *, mean: float = 0.4) -> np.ndarray:
  """Multiplies the image by the factor that makes its mean `mean`, then clips values above one."""
  return _unit(image * (mean / max(float(np.mean(image)), 1e-6)))


def gamma(image: np.ndarray, *, exponent: float = 0.3) -> np.ndarray:
  """`y^exponent`."""
  return _unit(_unit(image) ** exponent)


def histogram_equalization(image: np.ndarray) -> np.ndarray:
  """Equalises the histogram of the HSV value; hue and saturation do not change."""
  return _on_value(image, exposure.equalize_hist)


def clahe(image: np.ndarray) -> np.ndarray:
  """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994) of the HSV value."""
  return _on_value(image, exposure.equalize_adapthist)


def curve(image: np.ndarray, *, gain: float = 4.19, exponent: float = 0.45) -> np.ndarray:
  """`clip(gain y)^exponent`. The two constants were fitted to the brightness of normal-light photographs."""
  return _unit(_unit(gain * image) ** exponent)


def curve_bilateral(
  image: np.ndarray, *, window: int = 5, sigma_color: float = 0.1, sigma_spatial: float = 2.0
) -> np.ndarray:
  """`curve`, then a bilateral filter over `window` x `window` pixels."""
  enhanced = curve(image)
  filtered = restoration.denoise_bilateral(
    enhanced, win_size=window, sigma_color=sigma_color, sigma_spatial=sigma_spatial, mode="edge", channel_axis=-1
  )
  return _unit(filtered)


def curve_tv(image: np.ndarray, *, weight: float = 0.1) -> np.ndarray:
  """`curve`, then total-variation denoising."""
  return _denoise_tv(curve(image), weight)


def local_max_tv(image: np.ndarray, *, window: int = 7, exponent: float = 0.9, weight: float = 0.1) -> np.ndarray:
  """`y / t^exponent`, then total-variation denoising. t is the maximum of each channel over `window` x `window` pixels.

  LIME (Guo et al. 2017) also estimates illumination by local maxima, but over all channels, and then refines it.
  """
  illumination = ndimage.maximum_filter(image, size=(window, window, 1), mode="nearest")
  return _denoise_tv(_unit(image / np.maximum(illumination, 1e-3) ** exponent), weight)


def lime(image: np.ndarray, *, weight: float = 0.15, exponent: float = 0.8, sigma: float = 2.0) -> np.ndarray:
  """`y / t^exponent` by LIME (Guo et al. 2017), with its fast solver and third weighting, without the denoising.

  The illumination t minimises `|t - m|^2 + weight sum_d w_d (∂_d t)^2` over the two directions d, where m is the
  maximum over the channels: one sparse linear system. `w_d = 1 / ((|G ∂_d m| + .001) (|∂_d m| + .001))`, with G a
  Gaussian of `sigma` pixels, is small at structure and large at texture.
  """
  image = _unit(image).astype(np.float64)
  maximum = image.max(axis=-1)
  size = maximum.size
  system = sparse.eye_array(size, format="csc")
  for axis, step in enumerate((maximum.shape[1], 1)):
    change = np.diff(maximum, axis=axis, append=np.take(maximum, [-1], axis=axis))
    scale = weight / ((np.abs(ndimage.gaussian_filter(change, sigma)) + 1e-3) * (np.abs(change) + 1e-3))
    np.moveaxis(scale, axis, 0)[-1] = 0  # there are no pixels beyond the border
    offsets: Any = [0, step]  # scipy has no types, and its default is a single number
    forward = sparse.diags_array([-1.0, 1.0], offsets=offsets, shape=(size, size))
    system = system + forward.T @ sparse.diags_array(scale.ravel()) @ forward
  # This ordering is good for a symmetric matrix: a photograph of 600x400 takes about a second.
  illumination = sparse.linalg.spsolve(sparse.csc_array(system), maximum.ravel(), permc_spec="MMD_AT_PLUS_A")
  illumination = np.clip(illumination.reshape(maximum.shape), 1e-3, 1)
  return _unit(image / illumination[..., None] ** exponent)


def _unit(image: np.ndarray) -> np.ndarray:
  return np.clip(np.asarray(image, np.float32), 0, 1)


def _on_value(image: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
  hsv = color.rgb2hsv(_unit(image))
  hsv[..., 2] = change(hsv[..., 2])
  return _unit(color.hsv2rgb(hsv))


def _denoise_tv(image: np.ndarray, weight: float) -> np.ndarray:
  return _unit(restoration.denoise_tv_chambolle(image, weight=weight, channel_axis=-1))


BASELINES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  "input": _unit,
  "gain_to_mean": gain_to_mean,
  "gamma": gamma,
  "histogram_equalization": histogram_equalization,
  "clahe": clahe,
  "curve": curve,
  "curve_bilateral": curve_bilateral,
  "curve_tv": curve_tv,
  "local_max_tv": local_max_tv,
  "lime": lime,
}
