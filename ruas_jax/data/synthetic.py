"""Low-light images made from well-lit ones by a physical model, and the small built-in set made with it.

Images are uint8 [H, W, 3], sRGB-encoded. All functions use numpy and depend only on their seed.
"""

import dataclasses

import numpy as np
import skimage.data
import skimage.transform
from scipy import ndimage

from ruas_jax.data.sources import ImageArrays, ImageFolder, ImageSource, Pairs
from ruas_jax.errors import UserError
from ruas_jax.srgb import from_light, to_light


@dataclasses.dataclass(frozen=True)
class Conditions:
  """Ranges of the arguments of `darken`; they are drawn uniformly in their logarithm."""

  exposure: tuple[float, float] = (0.03, 0.1)
  full_well: tuple[float, float] = (8000.0, 8000.0)
  read_noise: tuple[float, float] = (2.0, 2.0)
  unevenness: tuple[float, float] = (1.0, 1.0)
  softness: tuple[float, float] = (0.0, 0.0)
  tint: float = 0.0
  """Standard deviation of the logarithm of the light of each colour."""


WIDE = Conditions(
  exposure=(0.008, 1.0),
  full_well=(1000.0, 20000.0),
  read_noise=(1.0, 6.0),
  unevenness=(0.05, 1.5),
  softness=(0.25, 0.9),
  tint=0.15,
)

# (photograph in skimage.data, top, left, height, width, resulting height, resulting width): regions without overlap.
# astronaut (NASA) and rocket (SpaceX) are in the public domain, coffee (R. Michetti) and chelsea (S. van der Walt) CC0.
_PIECES = {
  "train": (
    ("astronaut", 0, 0, 256, 256, 192, 192),
    ("astronaut", 0, 256, 256, 256, 192, 192),
    ("astronaut", 256, 0, 256, 256, 192, 192),
    ("astronaut", 256, 256, 256, 256, 192, 192),
    ("rocket", 0, 0, 427, 320, 256, 192),
    ("rocket", 0, 320, 427, 320, 256, 192),
  ),
  "evaluation": (
    ("coffee", 0, 0, 400, 300, 256, 192),
    ("coffee", 0, 300, 400, 300, 256, 192),
    ("chelsea", 0, 0, 300, 225, 256, 192),
    ("chelsea", 0, 225, 300, 225, 256, 192),
  ),
}
_PART_SEEDS = {"train": 0, "evaluation": 1}


def darken(
  image: np.ndarray,
  *,
  rng: np.random.Generator,
  exposure: float,
  unevenness: float = 1.0,
  full_well: float = 8000.0,
  read_noise: float = 2.0,
  light: tuple[float, float, float] = (1.0, 1.0, 1.0),
  softness: float = 0.0,
) -> np.ndarray:
  """The photograph as a sensor would record it in dim and uneven light.

  With x the image in [0, 1], p a pixel and c a colour:

    L(p, c) = decode(x(p, c))                                 linear light, by the sRGB curve
    Q(p, c) = full_well · exposure · light(c) · exp(−unevenness · s(p)) · L(p, c)      expected electrons
    N(p, c) = Poisson(Q(p, c)) + Normal(0, read_noise)        shot noise and read noise
    y(p, c) = round(255 · encode(clip((G * N)(p, c) / full_well, 0, 1))) / 255

  where s is a smooth random field with values from 0 to 1: the light decreases across the image, equally for all
  colours. G is a Gaussian of `softness` pixels: demosaicing and scaling mix neighbours, so their noise is correlated.

  Args:
    image: uint8 [H, W, 3], well lit.
    rng: the only source of randomness.
    exposure: share of the light that reaches the sensor, in (0, 1].
    unevenness: logarithm of the ratio of the strongest to the weakest light in the image; 0 is uniform light.
    full_well: number of electrons at which the sensor saturates; fewer mean more shot noise.
    read_noise: standard deviation in electrons.
    light: red, green and blue of the light source.
    softness: standard deviation in pixels; 0: neighbours are not mixed.

  Returns:
    y as uint8 [H, W, 3].
  """
  field = _smooth_field(image.shape[:2], rng)[..., None]
  electrons = full_well * exposure * np.array(light) * np.exp(-unevenness * field) * to_light(image / 255)
  recorded = rng.poisson(electrons) + rng.normal(0, read_noise, image.shape)
  if softness:
    recorded = ndimage.gaussian_filter(recorded, (softness, softness, 0), mode="nearest")
  return np.round(255 * from_light(np.clip(recorded / full_well, 0, 1))).astype(np.uint8)


class Darkened(ImageSource):
  """A source of well-lit images; image i is darkened by (seed, i) under `conditions`."""

  def __init__(self, source: ImageSource, *, seed: int, conditions: Conditions = Conditions()):
    self._source, self._seed, self._conditions, self.names = source, seed, conditions, source.names

  def __getitem__(self, index: int) -> np.ndarray:
    image, conditions = self._source[index], self._conditions
    rng = np.random.default_rng([self._seed, range(len(self))[index]])
    drawn = {
      name: _between(getattr(conditions, name), rng)
      for name in ("exposure", "full_well", "read_noise", "unevenness", "softness")
    }
    light = tuple(np.exp(rng.normal(0, conditions.tint, 3))) if conditions.tint else (1.0, 1.0, 1.0)
    return darken(image, rng=rng, light=light, **drawn)

  def sizes(self) -> list[tuple[int, int]]:
    return self._source.sizes()


_VERSIONS, _LONGEST = 12, 640


def darkened_folder(folder: str) -> ImageSource:
  """Twelve darkened versions of each photograph in a folder of well-lit ones, under `WIDE` conditions.

  The photographs are first reduced to at most 640 pixels, which removes their noise.
  """
  photographs = ImageFolder(folder)
  names, smaller = [], []
  for name, photograph in zip(photographs.names, photographs, strict=True):
    scale = min(1.0, _LONGEST / max(photograph.shape[:2]))
    size = [max(1, round(scale * side)) for side in photograph.shape[:2]]
    image = np.asarray(skimage.transform.resize(photograph / 255, size, anti_aliasing=True))
    smaller += [np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)] * _VERSIONS
    names += [f"{name}-{1 + version}" for version in range(_VERSIONS)]
  return Darkened(ImageArrays(names, smaller), seed=0, conditions=WIDE)


def builtin_pairs(part: str) -> Pairs:
  """The built-in set: regions of scikit-image's photographs as references, and darkened versions of them.

  Args:
    part: "train" (6 pairs) or "evaluation" (4 pairs from other photographs), with sides of 192 to 256 pixels.

  Raises:
    UserError: the part is unknown.
  """
  if part not in _PIECES:
    raise UserError(f"builtin:{part} does not exist; write {' or '.join(f'builtin:{known}' for known in _PIECES)}")
  names, pieces = [], []
  for photograph, top, left, height, width, *delivered in _PIECES[part]:
    names.append(f"{photograph}-{1 + sum(name.startswith(photograph) for name in names)}")
    piece = getattr(skimage.data, photograph)()[top : top + height, left : left + width]
    smaller = np.asarray(skimage.transform.resize(piece / 255, delivered, anti_aliasing=True))
    pieces.append(np.round(255 * np.clip(smaller, 0, 1)).astype(np.uint8))
  high = ImageArrays(names, pieces)
  return Pairs(ImageArrays(names, Darkened(high, seed=_PART_SEEDS[part])), high)


def _between(bounds, rng):
  low, high = bounds
  return low if low == high else float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _smooth_field(size, rng):
  """Cubic interpolation of a 3x3 grid of random numbers, scaled to the range [0, 1]."""
  field = np.asarray(skimage.transform.resize(rng.uniform(size=(3, 3)), size, order=3))
  return (field - field.min()) / max(np.ptp(field), np.finfo(float).tiny)
