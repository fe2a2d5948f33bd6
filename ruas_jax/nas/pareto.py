"""Trade-offs of two numbers that are both better when smaller, such as cost and loss."""

from collections.abc import Sequence

import numpy as np


def nondominated(points: Sequence[tuple[float, float]]) -> list[bool]:
  """For each point whether no other point is at least as small in both numbers and smaller in one. Equal points are
  kept together.

  Raises:
    ValueError: `points` is not `[N, 2]`, or has a number that is not finite.
  """
  array = _checked(points)
  no_larger = np.all(array[:, None] <= array, axis=-1)  # [other, point]
  smaller = np.any(array[:, None] < array, axis=-1)
  return (~np.any(no_larger & smaller, axis=0)).tolist()


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
  """The area between the points and `reference`: of all `(x, y)` that are no larger than `reference`, and no smaller
  than some point in both numbers. Points that are larger than `reference` in one number add nothing.

  Raises:
    ValueError: as in `nondominated`.
  """
  array = _checked(points)
  inside = array[np.all(array < reference, axis=1)]
  area, lowest = 0.0, float(reference[1])
  for x, y in sorted(map(tuple, inside)):
    if y < lowest:
      area += (reference[0] - x) * (lowest - y)
      lowest = y
  return float(area)


def _checked(points: Sequence[tuple[float, float]]) -> np.ndarray:
  array = np.asarray(points, np.float64).reshape(-1, 2) if len(points) == 0 else np.asarray(points, np.float64)
  if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all():
    raise ValueError(f"points must be finite numbers [N, 2], not {points!r}")
  return array
