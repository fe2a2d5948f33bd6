"""How an image of any size is run: whole or in windows, in its own shape or filled up to one that others share.

Pure arithmetic on sides in pixels. A window overlaps its neighbours so far that every pixel is taken from a window
which holds all that the pixel depends on; at the image's border the window ends where the image does. So nothing is
blended, and the parts together are the whole.
"""

import itertools
import math
from typing import NamedTuple

TILE = 512
"""Side of a window in pixels. The arrays of a larger one leave a CPU's cache; smaller ones overlap more."""
EXACT_SHAPES = 4
"""So many different shapes are compiled for themselves before later ones share buckets."""
_STEP = 16  # bucket sides are multiples of it,
_GROWTH = 1.2  # about so far apart
_SPARE = 2.0  # a compiled bucket serves what is at least the so manieth part of it


class Span(NamedTuple):
  """A window along one axis: it reads `[start, stop)`, and `[first, last)` of it is kept."""

  start: int
  stop: int
  first: int
  last: int


def split(length: int, side: int, halo: int) -> list[Span]:
  """As few equally long windows of at most `side` pixels as cover an axis, each with `halo` pixels or the image's
  border around what is kept of it. A side that has little room between its halos is widened."""
  side = max(side, 4 * halo)
  if length <= side:
    return [Span(0, length, 0, length)]
  count = math.ceil((length - 2 * halo) / (side - 2 * halo))
  side = math.ceil((length + 2 * halo * (count - 1)) / count)
  starts = [index * (length - side) // (count - 1) for index in range(count)]
  cuts = [0, *((start + before + side) // 2 for before, start in itertools.pairwise(starts)), length]
  return [Span(start, start + side, *cuts[index : index + 2]) for index, start in enumerate(starts)]


def split_image(height: int, width: int, tile: int, halo: int) -> tuple[list[Span], list[Span]]:
  """Windows along rows and columns; an image with no more pixels than a window of `tile` x `tile` stays whole."""
  whole = height * width <= tile * tile
  rows, columns = (split(length, length if whole else tile, halo) for length in (height, width))
  return rows, columns


def bucket(length: int) -> int:
  """The least of the shared sides that has room for `length`."""
  side = _STEP
  while side < length:
    side = max(side + _STEP, math.ceil(side * _GROWTH / _STEP) * _STEP)
  return side


class Shapes:
  """The shapes that a run has met: which one a window is run in depends on those before it, in order.

  Attributes:
    exact: shapes that run as they are, at most `EXACT_SHAPES`.
    buckets: shared shapes; what is smaller is filled up with zeros and a mask.
  """

  def __init__(self):
    self.exact: list[tuple[int, int]] = []
    self.buckets: list[tuple[int, int]] = []

  def choose(self, height: int, width: int) -> tuple[tuple[int, int], bool]:
    """The shape to run `height` x `width` in, and whether that is a bucket."""
    own = (height, width)
    if own not in self.exact and len(self.exact) < EXACT_SHAPES:
      self.exact.append(own)
    if own in self.exact:
      return own, False
    nearest = bucket(height), bucket(width)
    most = max(math.prod(nearest), _SPARE * height * width)
    for shape in sorted(self.buckets, key=math.prod):
      if shape[0] >= height and shape[1] >= width and math.prod(shape) <= most:
        return shape, True
    self.buckets.append(nearest)
    return nearest, True
