"""An automatic white balance: the colour of the light, estimated from the photograph.

The estimate is "shades of grey" (Finlayson and Trezzi 2004): the p-norm mean of each colour's light, with p = 6, is
that of the illuminant. p = 1 is the grey world, and p to infinity the brightest pixel.
"""

import math

import numpy as np

from ruas_jax.photos.photo import Photo
from ruas_jax.srgb import to_light

_NORM = 6
_MOST_STOPS = 0.5  # that a colour is changed: a sunset stays warm
_CLIPPED = 0.98  # the colour of a pixel with a larger value is not known
_SAMPLES = 1_000_000  # pixels that are read, so that a large photograph takes no longer


def gains_of(photo: Photo, amount: float) -> np.ndarray | None:
  """`colour_gains` of a photograph, from about a million of its pixels. None if the amount is 0."""
  if amount == 0:
    return None
  height, width = photo.samples.shape[:2]
  every = slice(None, None, math.ceil(math.sqrt(height * width / _SAMPLES)))
  return colour_gains(photo.values(every, every), amount)


def colour_gains(values: np.ndarray, amount: float) -> np.ndarray:
  """Gains of light for the three colours, float32 `[3]`, whose product is 1.

  Args:
    values: the photograph as sRGB values in [0, 1], float `[H, W, 3]`.
    amount: 0 to 1: how much of the estimated colour is taken away; 0 gives ones.
  """
  pixels = values.reshape(-1, 3)
  light = to_light(pixels[pixels.max(axis=-1) < _CLIPPED].astype(np.float64))
  illuminant = np.mean(light**_NORM, axis=0) ** (1 / _NORM) if len(light) else np.zeros(3)
  if not illuminant.all():  # a colour is missing everywhere
    return np.ones(3, np.float32)
  stops = -np.log2(illuminant)
  stops = np.clip(stops - stops.mean(), -_MOST_STOPS, _MOST_STOPS)
  return (2.0 ** (amount * (stops - stops.mean()))).astype(np.float32)
