"""The curve of sRGB (IEC 61966-2-1): the values of a picture, and the light that they stand for, both in [0, 1].

Arrays of NumPy or jax. The derivatives are finite everywhere. Powers are written as exp and log, which XLA computes for
many numbers at once on a CPU.
"""

from typing import Any

LINE_ENDS, LIGHT_THERE, SLOPE = 0.04045, 0.0031308, 12.92
"""The curve is a line up to this value and this light; its slope."""
OFFSET, EXPONENT = 0.055, 2.4
"""Of the curve beyond."""


def to_light(values: Any) -> Any:
  """The linear light of sRGB values, in their float type."""
  xp = values.__array_namespace__()
  curved = xp.exp(EXPONENT * xp.log((xp.maximum(values, LINE_ENDS) + OFFSET) / (1 + OFFSET)))
  return xp.where(values <= LINE_ENDS, values / SLOPE, curved)


def from_light(light: Any) -> Any:
  """The sRGB values of linear light, in its float type."""
  xp = light.__array_namespace__()
  curved = (1 + OFFSET) * xp.exp(xp.log(xp.maximum(light, LIGHT_THERE)) / EXPONENT) - OFFSET
  return xp.where(light <= LIGHT_THERE, SLOPE * light, curved)
