"""The computed baselines keep the image contract, are what their formulas say, and give the known figures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
