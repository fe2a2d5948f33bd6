"""Windows cover an image with a halo around each, and many sizes share few shapes."""

import itertools
import math

import numpy as np
import pytest

from ruas_jax.photos.sizes import EXACT_SHAPES, Shapes, bucket, split, split_image


@pytest.mark.parametrize("halo", [0, 1, 3])
def test_every_pixel_is_kept_once_from_a_window_that_holds_its_surroundings(halo):
  for side, length in itertools.product((12, 13, 20), range(1, 90)):
    spans = split(length, side, halo)
    kept = [pixel for span in spans for pixel in range(span.first, span.last)]
    assert kept == list(range(length))
    assert len({span.stop - span.start for span in spans}) == 1  # one shape, one program
    for start, stop, first, last in spans:
      assert 0 <= start <= first < last <= stop <= length and stop - start <= side
      assert start == 0 or first - start >= halo
      assert stop == length or stop - last >= halo
    fewest = 1 if length <= side else math.ceil((length - 2 * halo) / (side - 2 * halo))
    assert len(spans) == fewest


def test_a_window_is_wider_than_its_halos():
  spans = split(1000, 8, 30)
  assert spans[0].stop == 119 and len(spans) == 16 and spans[-1].last == 1000


def test_what_has_no_more_pixels_than_a_window_stays_whole():
  assert [len(spans) for spans in split_image(10, 1000, 100, 2)] == [1, 1]
  assert [len(spans) for spans in split_image(10, 1001, 100, 2)] == [1, 11]
  assert [len(spans) for spans in split_image(101, 100, 100, 2)] == [2, 1]


def test_buckets_are_near_and_few():
  sides = [bucket(length) for length in range(1, 3000)]
  assert all(side >= length and side % 16 == 0 for length, side in enumerate(sides, start=1))
  assert all(side <= max(1.2 * length + 16, length + 16) for length, side in enumerate(sides, start=1))
  assert [bucket(side) for side in sides] == sides and len(set(sides)) < 25


def test_the_first_shapes_are_exact_and_many_later_ones_share_a_few():
  shapes, rng = Shapes(), np.random.default_rng(0)
  sizes = [tuple(map(int, rng.integers(300, 700, 2))) for _ in range(200)]
  for number, size in enumerate(sizes):
    shape, masked = shapes.choose(*size)
    assert masked == (number >= EXACT_SHAPES)
    if masked:
      assert shape[0] >= size[0] and shape[1] >= size[1] and math.prod(shape) <= 2 * math.prod(size)
    else:
      assert shape == size
  assert shapes.exact == sizes[:EXACT_SHAPES] and len(shapes.buckets) <= 20
  assert shapes.choose(*sizes[1]) == (sizes[1], False)
  buckets = list(shapes.buckets)
  for size in sizes:
    shapes.choose(*size)
  assert shapes.buckets == buckets  # all has been met


def test_a_small_image_does_not_run_in_a_huge_shape():
  shapes = Shapes()
  for size in [(9, 9), (9, 8), (9, 7), (9, 6), (500, 500), (20, 20)]:
    last = shapes.choose(*size)
  assert last == ((32, 32), True)
