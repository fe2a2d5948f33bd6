"""The computed baselines keep the image contract, are what their formulas say, and give the known figures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from ruas_jax.evaluation import baselines
from ruas_jax.evaluation.baselines import BASELINES
from ruas_jax.evaluation.metrics import psnr, ssim

# Mean PSNR and SSIM over the two pairs, from the run that gave the known figures over all 64.
EXPECTED = {
  "input": (6.3036, 0.0611),
  "gain_to_mean": (13.6991, 0.2861),
  "gamma": (12.1010, 0.3520),
  "curve": (14.6130, 0.3483),
}
PAIRS = Path(__file__).parents[2] / "shared" / "data" / "lol" / "dev"


def dark_image() -> np.ndarray:
  generator = np.random.default_rng(0)
  ramp = np.linspace(0.02, 0.2, 20)[None, :, None] * np.array([1.0, 0.8, 0.6])
  return np.clip(np.broadcast_to(ramp, (16, 20, 3)) + generator.normal(0, 0.01, (16, 20, 3)), 0, 1)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_keeps_the_image_contract(name):
  dark = dark_image()
  for image in (dark, dark.astype(np.float32), np.zeros((12, 12, 3)), np.ones((12, 12, 3), np.float32)):
    before = image.copy()
    enhanced = BASELINES[name](image)
    assert enhanced.shape == image.shape and enhanced.dtype == np.float32
    assert np.isfinite(enhanced).all() and enhanced.min() >= 0 and enhanced.max() <= 1
    np.testing.assert_array_equal(image, before)
  if name != "input":
    assert BASELINES[name](dark).mean() > 1.5 * dark.mean()


def test_pointwise_formulas():
  image = np.full((4, 4, 3), 0.1)
  image[..., 1] = 0.5
  np.testing.assert_allclose(baselines.curve(image)[0, 0], [0.419**0.45, 1, 0.419**0.45], rtol=1e-6)
  np.testing.assert_allclose(baselines.gamma(image)[0, 0], [0.1**0.3, 0.5**0.3, 0.1**0.3], rtol=1e-6)
  assert baselines.gain_to_mean(dark_image()).mean() == pytest.approx(0.4, abs=0.005)
  assert baselines.gain_to_mean(dark_image(), mean=0.1).mean() == pytest.approx(0.1, abs=1e-6)


def test_equalization_spreads_the_value_and_keeps_the_hue():
  image = np.linspace(0.01, 0.1, 60).reshape(6, 10, 1) * np.array([1.0, 0.5, 0.25])
  equalized = baselines.histogram_equalization(image)
  np.testing.assert_allclose(np.sort(equalized.max(axis=-1).ravel()), np.arange(1, 61) / 60, atol=0.01)
  np.testing.assert_allclose(equalized / equalized[..., :1], image / image[..., :1], rtol=1e-4)


def test_the_local_maximum_lifts_flat_regions_by_its_exponent():
  image = np.full((40, 80, 3), 0.04)
  image[:, 40:] = 0.25
  lifted = baselines.local_max_tv(image, window=3, weight=1e-3)
  np.testing.assert_allclose([lifted[20, 5, 0], lifted[20, 75, 0]], [0.04**0.1, 0.25**0.1], atol=2e-3)


def test_the_local_maximum_reaches_in_every_direction_per_channel():
  image = np.full((21, 21, 3), 0.04)
  image[10, 10, 0] = 0.25
  lifted = baselines.local_max_tv(image, window=3, weight=1e-3)
  for position in ((9, 10), (10, 9), (11, 11)):
    np.testing.assert_allclose(lifted[position], [0.04 / 0.25**0.9, 0.04**0.1, 0.04**0.1], atol=0.02)
  np.testing.assert_allclose(lifted[10, 12], 0.04**0.1, atol=0.02)


def test_lime_divides_flat_regions_by_their_maximum_over_the_channels():
  image = np.full((40, 60, 3), 0.04) * np.array([1.0, 0.5, 0.25])
  image[:, 30:] = 0.5
  lifted = baselines.lime(image, weight=1e-6)
  np.testing.assert_allclose(lifted[20, 5], 0.04 / 0.04**0.8 * np.array([1.0, 0.5, 0.25]), rtol=1e-3)
  np.testing.assert_allclose(lifted[20, 55], 0.5 / 0.5**0.8, rtol=1e-3)


def lime_illumination(maximum):
  """Read off a channel too dark to be clipped."""
  image = maximum[..., None] * np.array([1.0, 0.25, 0.25])
  return image[..., 1] / baselines.lime(image, exponent=1.0)[..., 1]


def test_lime_keeps_structure_and_smooths_texture_of_the_illumination():
  texture = np.where(np.indices((40, 60)).sum(axis=0) % 2, 0.09, 0.11)
  illumination = lime_illumination(np.where(np.arange(60) < 30, texture, 8 * texture))
  dark, light = illumination[10:30, 5:25], illumination[10:30, 35:55]
  assert np.ptp(dark) < 0.1 * 0.02 and dark.mean() == pytest.approx(0.1, abs=0.03)
  assert np.ptp(light) < 0.2 * 0.16 and light.mean() == pytest.approx(0.8, abs=0.03)


def test_lime_is_the_minimum_of_its_energy():
  maximum = dark_image().max(axis=-1)
  illumination = lime_illumination(maximum)

  def energy(t):
    smoothness = 0.0
    for axis in (0, 1):
      change = np.diff(maximum, axis=axis, append=np.take(maximum, [-1], axis=axis))
      scale = 1 / ((np.abs(ndimage.gaussian_filter(change, 2.0)) + 1e-3) * (np.abs(change) + 1e-3))
      smoothness += np.sum(scale * np.diff(t, axis=axis, append=np.take(t, [-1], axis=axis)) ** 2)
    return np.sum((t - maximum) ** 2) + 0.15 * smoothness

  row, column = np.indices(maximum.shape) / 20 - 0.4
  for direction in (np.ones_like(maximum), row, column, row * column, maximum - illumination):
    for step in (-1e-2, 1e-2):
      assert energy(illumination + step * direction) > energy(illumination)


def test_denoising_smooths_and_keeps_edges():
  noise = np.random.default_rng(0).normal(0, 0.004, (32, 32, 3))
  image = np.where(np.arange(32)[None, :, None] < 16, 0.02, 0.2) + noise
  rough = baselines.curve(image)
  for smooth in (baselines.curve_tv(image), baselines.curve_bilateral(image)):
    assert smooth[:, 2:12].std() < 0.8 * rough[:, 2:12].std()
    assert smooth[:, 20:].mean() - smooth[:, :12].mean() > 0.9 * (rough[:, 20:].mean() - rough[:, :12].mean())


@pytest.mark.skipif(not PAIRS.is_dir(), reason="needs the development pairs in ../shared/data/lol/dev")
def test_known_figures_of_two_pairs():
  names = sorted(path.name for path in (PAIRS / "low").iterdir())[:2]
  images = [np.asarray(Image.open(PAIRS / "low" / name)) / np.float32(255) for name in names]
  references = [np.asarray(Image.open(PAIRS / "high" / name)) for name in names]
  for name, expected in EXPECTED.items():
    enhanced = [BASELINES[name](image) for image in images]
    figures = [np.mean([metric(*each) for each in zip(enhanced, references, strict=True)]) for metric in (psnr, ssim)]
    assert figures == pytest.approx(expected, abs=0.002), name
