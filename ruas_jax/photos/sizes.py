"""How an image of any size is computed: whole or in windows, in its exact shape or padded to a shared one.

This is arithmetic on sides in pixels. Windows overlap so far that every pixel of the result is taken from a window that
holds all pixels it depends on. At the image's border the window ends with the image. So no blending is needed, and the
parts together are exactly the result of the whole image.
"""

import itertools
import math
from typing import NamedTuple

TILE = 512
"""Side of a window in pixels. Arrays of larger windows do not fit in a CPU's cache; smaller windows overlap more."""
EXACT_SHAPES = 4
"""Number of different shapes that get a program each. Later shapes share buckets."""
_STEP = 16  # the sides of buckets are multiples of this
_GROWTH = 1.2  # approximate ratio of one bucket to the next
_SPARE = 2.0  # a compiled bucket is used for images that need at least 1/_SPARE of its pixels


class Span(NamedTuple):
  """A window along one axis: it reads `[start, stop)`, and `[first, last)` of the result is kept."""

  start: int
  stop: int
  first: int
  last: int


def split(length: int, side: int, halo: int) -> list[Span]:
  """The smallest number of equal windows, at most `side` pixels long, that cover an axis. Each has `halo` pixels, or
  the image's border, around the part that is kept. If `side` leaves little room between the halos, it is increased."""
  side = max(side, 4 * halo)
  if length <= side:
    return [Span(0, length, 0, length)]
  count = math.ceil((length - 2 * halo) / (side - 2 * halo))
  side = math.ceil((length + 2 * halo * (count - 1)) / count)
  starts = [index * (length - side) // (count - 1) for index in range(count)]
  cuts = [0, *((start + before + side) // 2 for before, start in itertools.pairwise(starts)), length]
  return [Span(start, start + side, *cuts[index : index + 2]) for index, start in enumerate(starts)]


def split_image(height: int, width: int, tile: int, halo: int) -> tuple[list[Span], list[Span]]:
  """Windows along rows and columns. An image with at most `tile` x `tile` pixels is one window."""
  whole = height * width <= tile * tile
  rows, columns = (split(length, length if whole else tile, halo) for length in (height, width))
  return rows, columns


def bucket(length: int) -> int:
  """The smallest shared side that is at least `length`."""
  side = _STEP
  while side < length:
    side = max(side + _STEP, math.ceil(side * _GROWTH / _STEP) * _STEP)
  return side


class Shapes:
  """The shapes that were used so far. The shape for a window depends on the order of the windows.

  Attributes:
    exact: shapes that are compiled exactly, at most `EXACT_SHAPES`.
    buckets: shared shapes; smaller images are padded with zeros and masked.
  """

  def __init__(self):
    self.exact: list[tuple[int, int]] = []
    self.buckets: list[tuple[int, int]] = []

  def choose(self, height: int, width: int) -> tuple[tuple[int, int], bool]:
    """The shape in which `height` x `width` is computed, and whether it is a bucket."""
    size = (height, width)
    if size not in self.exact and len(self.exact) < EXACT_SHAPES:
      self.exact.append(size)
    if size in self.exact:
      return size, False
    nearest = bucket(height), bucket(width)
    most = max(math.prod(nearest), _SPARE * height * width)
    for shape in sorted(self.buckets, key=math.prod):
      if shape[0] >= height and shape[1] >= width and math.prod(shape) <= most:
        return shape, True
    self.buckets.append(nearest)
    return nearest, True
