"""Pareto fronts against values by hand."""

import numpy as np
import pytest

from ruas_jax.nas.pareto import hypervolume, nondominated

#        a       b       c: as b, larger y   d       e: d again   f: a, larger x
POINTS = [(1, 5), (2, 3), (2, 4), (4, 1), (4, 1), (1.5, 5)]


def test_nondominated_points_by_hand():
  assert nondominated(POINTS) == [True, True, False, True, True, False]
  assert nondominated([]) == [] and nondominated([(0, 0)]) == [True]


def test_hypervolume_by_hand():
  """Of steps from left to right: (6-1)(6-5), (6-2)(5-3), (6-4)(3-1)."""
  assert hypervolume(POINTS, (6, 6)) == 5 + 8 + 4
  assert hypervolume(POINTS[1:2], (6, 6)) == 12
  assert hypervolume([(2, 3), (7, 0), (0, 6)], (6, 6)) == 12  # beyond the reference, and on its edge
  assert hypervolume([], (6, 6)) == 0


def test_hypervolume_is_the_share_of_a_grid():
  rng = np.random.default_rng(0)
  points = rng.uniform(0.2, 1.2, (12, 2))
  side = (np.arange(400) + 0.5) / 400
  x, y = np.meshgrid(side, side)
  covered = np.any([(x >= a) & (y >= b) for a, b in points], axis=0)
  assert hypervolume(points.tolist(), (1, 1)) == pytest.approx(covered.mean(), abs=0.005)
  front = [point for point, on_it in zip(points.tolist(), nondominated(points.tolist()), strict=True) if on_it]
  assert 1 < len(front) < 12 and hypervolume(front, (1, 1)) == hypervolume(points.tolist(), (1, 1))


@pytest.mark.parametrize("points", [[(1, float("nan"))], [(1, 2, 3)], [1, 2]])
def test_wrong_points_are_refused(points):
  with pytest.raises(ValueError, match="finite numbers"):
    nondominated(points)
