"""What a user can turn: strength, noise removal, white balance and exposure. Each is exact at its neutral value."""

import math
from typing import NamedTuple

import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.srgb import from_light, to_light

_MOST_STOPS = 10


class Knobs(NamedTuple):
  """The options of `ruas enhance` that change the pixels.

  Attributes:
    strength: blend of the photograph (0) and the model's result (1).
    denoise: blend of the result without noise removal (0) and with it (1); None: what the model's variant has.
    exposure: stops of light, added after everything else.
    white_balance: how much of the light's estimated colour is taken away, 0 to 1.
  """

  strength: float = 1.0
  denoise: float | None = None
  exposure: float = 0.0
  white_balance: float = 0.0

  def check(self) -> None:
    """Raises UserError for a value out of range."""
    for name in ("strength", "denoise", "white_balance"):
      value = getattr(self, name)
      if value is not None and not 0 <= value <= 1:
        raise UserError(f"`{name}` must be between 0 and 1, not {value}")
    if not (math.isfinite(self.exposure) and abs(self.exposure) <= _MOST_STOPS):
      raise UserError(f"`exposure` must be between -{_MOST_STOPS} and {_MOST_STOPS} stops, not {self.exposure}")

  def apply(self, enhanced: np.ndarray, photo: np.ndarray, gains: np.ndarray | None) -> np.ndarray:
    """The values to write, from the model's result and the photograph, float32 of one shape, and the gains of
    `colour_gains`."""
    values = enhanced if self.strength == 1 else self.strength * enhanced + (1 - self.strength) * photo
    return expose(values, self.exposure, gains)


def expose(values: np.ndarray, stops: float, gains: np.ndarray | None = None) -> np.ndarray:
  """sRGB values in [0, 1] with their light multiplied by `2 ** stops` and by the `gains` of the colours, `[3]`, clipped
  to [0, 1]. 0 and None change nothing.

  The gain acts on light, as that of a camera does, and after the network: the network estimates the illumination, so it
  would undo a gain before it.
  """
  if stops == 0 and gains is None:
    return values
  light = to_light(np.clip(values, 0, 1)) * (np.float32(2.0**stops) * (1 if gains is None else gains))
  return from_light(np.minimum(light, 1)).astype(np.float32)
