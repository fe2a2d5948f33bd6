"""The curve of sRGB (IEC 61966-2-1): the values of a picture, and the light that they stand for, both in [0, 1]."""

import numpy as np


def to_light(values: np.ndarray) -> np.ndarray:
  """The linear light of sRGB values, in their float type."""
  return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def from_light(light: np.ndarray) -> np.ndarray:
  """The sRGB values of linear light, in its float type."""
  return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
