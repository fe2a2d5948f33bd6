"""The figures without a reference are what their definitions say, in cases that can be worked out by hand."""

import numpy as np
import pytest
from skimage import color

from ruas_jax.errors import UserError
from ruas_jax.evaluation.no_reference import (
  clipped_share,
  colour_cast,
  colour_cast_shift,
  flat_noise,
  lightness_order_error,
  newly_white_share,
  no_reference,
)


def grey(values) -> np.ndarray:
  return np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=-1)


def textured(height=48, width=64) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 60, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
  "curve", [lambda x: 255 - 2 * (127 - x), lambda x: 255 * (x / 255) ** 0.3], ids=["line", "power"]
)
def test_a_rising_curve_keeps_the_order(curve):
  ramp = grey(np.arange(120).reshape(10, 12))
  assert lightness_order_error(ramp, grey(np.round(curve(ramp[..., 0].astype(float))))) < 0.01
  assert lightness_order_error(ramp, ramp) == 0


def test_order_errors_are_counted_in_pairs():
  before = grey([[10, 20], [30, 40]])
  # Of the 16 ordered pairs, exchanging two neighbours in the order changes theirs, both ways.
  assert lightness_order_error(before, grey([[20, 10], [30, 40]])) == 2 / 16
  # Turned around, all pairs of different pixels are errors.
  assert lightness_order_error(before, grey([[40, 30], [20, 10]])) == 12 / 16
  # Of two pixels that become equal, only the one that was smaller is now at least as light.
  assert lightness_order_error(before, grey([[20, 20], [30, 40]])) == 1 / 16


def test_lightness_is_the_maximum_over_the_channels():
  before, after = np.zeros((1, 2, 3), np.uint8), np.zeros((1, 2, 3), np.uint8)
  before[0, 0], before[0, 1] = (9, 200, 0), (100, 100, 100)
  after[0, 0], after[0, 1] = (200, 200, 200), (190, 190, 190)
  assert lightness_order_error(before, after) == 0


def test_the_order_error_of_a_large_image_is_that_of_a_small_one():
  """Halves exchanged: each pair across the halves is an error, half of all pairs; a few columns blur at the border."""
  before = grey(np.repeat([[40] * 80 + [90] * 80], 160, axis=0))
  assert lightness_order_error(before, before[:, ::-1]) == pytest.approx(0.52, abs=0.02)


def test_only_new_white_counts():
  before, after = grey(np.full((4, 5), 9)), grey(np.full((4, 5), 99))
  before[0, 0] = after[0, 0] = 255  # was white
  after[1, 1] = after[1, 2] = after[1, 3] = 255
  after[2, 2] = (255, 255, 254)  # is not
  assert newly_white_share(before, after) == 3 / 20
  assert clipped_share(after) == 5 / 20
  assert newly_white_share(after, before) == 0


def test_levels_are_rounded_once():
  before, after = np.full((2, 2, 3), 0.2), np.full((2, 2, 3), 0.9981)  # 254.5: white once rounded
  assert newly_white_share(before, after) == clipped_share(after) == 1


@pytest.mark.parametrize("sigma", [2.0, 8.0])
def test_noise_is_its_standard_deviation(sigma):
  noise = np.random.default_rng(0).normal(0, sigma, (160, 160, 3))
  before = grey(np.full((160, 160), 30))
  assert flat_noise(before, np.round(128 + noise).astype(np.uint8)) == pytest.approx(sigma, rel=0.05)
  assert flat_noise(before, grey(np.full((160, 160), 128))) == 0


def test_blotches_are_noise_and_shading_is_none():
  rows, columns = np.indices((64, 64))
  before = grey(np.full((64, 64), 30))
  assert flat_noise(before, grey(60 + rows + columns)) == pytest.approx(0, abs=1e-6)
  blotches = np.random.default_rng(0).integers(0, 2, (16, 16)).repeat(4, 0).repeat(4, 1)
  assert flat_noise(before, grey(100 + 20 * blotches)) == pytest.approx(10, rel=0.2)


def test_noise_is_measured_where_the_photograph_is_flat():
  """A quarter of the blocks is flat, the rest is texture that the result still has."""
  before = textured(128, 128)
  before[:64, :64] = 30
  after = 3 * before
  noise = np.random.default_rng(1).normal(0, 4.0, (64, 64, 3))
  after[:64, :64] = np.round(90 + noise)
  assert flat_noise(before, after) == pytest.approx(4.0, rel=0.15)


def test_flatness_is_judged_for_the_brightness_and_behind_the_noise():
  random = np.random.default_rng(2)
  coarse = random.choice([-1, 1], (8, 8)).repeat(8, 0).repeat(8, 1)
  after = np.round(128 + random.normal(0, [[[3.0]]] * 64 + [[[20.0]]] * 64, (128, 64, 3))).astype(np.uint8)
  dark = grey(np.concatenate([200 + 8 * coarse, 10 + 4 * coarse]))
  assert flat_noise(dark, after) == pytest.approx(3.0, rel=0.15)
  noisy = np.concatenate([random.normal(0, 12, (64, 64, 3)), 4 * coarse[..., None] * np.ones(3)])
  assert flat_noise(np.round(100 + noisy).astype(np.uint8), after) == pytest.approx(3.0, rel=0.15)


def test_black_and_white_of_the_photograph_hold_no_noise():
  noise = np.random.default_rng(1).normal(0, 4.0, (64, 128, 3))
  before = np.round(40 + noise).astype(np.uint8)
  before[:, :32], before[:, 96:] = 0, 255
  assert flat_noise(before, before) == pytest.approx(4.0, rel=0.15)
  assert flat_noise(grey(np.zeros((32, 32))), grey(np.full((32, 32), 7))) == 0


def test_cast_is_the_distance_of_the_mean_chroma_from_grey():
  assert colour_cast(grey(np.arange(256).reshape(16, 16))) == pytest.approx(0, abs=0.01)
  red = np.full((4, 4, 3), (180, 90, 90), np.uint8)
  lab = color.rgb2lab(red / 255)[0, 0]
  assert colour_cast(red) == pytest.approx(np.hypot(lab[1], lab[2]), rel=1e-6)
  # Opposite chroma cancels: a colourful scene has no cast.
  both = color.lab2rgb([[[60, 20, 10], [60, -20, -10]]])
  assert colour_cast(both) == pytest.approx(0, abs=0.5)


def test_brightening_by_one_gain_is_no_shift():
  before = np.full((8, 8, 3), (40, 20, 30), np.uint8)
  assert colour_cast_shift(before, 4 * before) == pytest.approx(0, abs=1e-9)
  assert colour_cast_shift(before, grey(np.full((8, 8), 120))) == pytest.approx(colour_cast(4 * before), rel=1e-3)


def test_all_figures_of_an_unchanged_photograph():
  before = textured()
  figures = no_reference(before, before / 255)
  changed = ("lightness_order_error", "newly_white_share", "colour_cast_shift")
  assert [figures[name] for name in changed] == [0, 0, 0]
  assert figures["brightness"] == pytest.approx(before.mean() / 255)
  assert figures["flat_noise"] == flat_noise(before, before) > 0
  assert figures["colour_cast"] == colour_cast(before) and figures["clipped_share"] == clipped_share(before)
  assert all(type(value) is float for value in figures.values())


def test_what_cannot_be_compared_is_named():
  with pytest.raises(UserError, match=r"\(48, 64, 3\) and \(48, 60, 3\)"):
    no_reference(textured(), textured(48, 60))
  with pytest.raises(UserError, match="12x40"):
    flat_noise(textured(40, 12), textured(40, 12))
