"""The figures mean what the protocol says: one rounding, PSNR's formula, an SSIM another library agrees with."""

import json
import math

import dm_pix
import numpy as np
import pytest

from ruas_jax.errors import UserError
from ruas_jax.evaluation.metrics import PROTOCOL, finite_or_none, psnr, ssim, to_uint8, with_mean_of


def pair() -> tuple[np.ndarray, np.ndarray]:
  generator = np.random.default_rng(0)
  reference = generator.integers(
    100, 130, (24, 31, 3), dtype=np.uint8
  )  # little contrast: every constant of SSIM matters
  prediction = (reference + generator.normal(0, 5, reference.shape)).astype(np.uint8)
  return prediction, reference


def test_levels_are_rounded_to_the_nearest_once_and_clipped():
  levels = np.array([-3.0, 0.0, 0.4, 0.6, 100.6, 254.4, 255.0, 400.0])
  expected = [0, 0, 0, 1, 101, 254, 255, 255]
  for dtype in (np.float32, np.float64):
    rounded = to_uint8((levels / 255).astype(dtype))
    assert rounded.dtype == np.uint8 and rounded.tolist() == expected
  every = np.arange(256, dtype=np.uint8)
  np.testing.assert_array_equal(to_uint8(every), every)
  np.testing.assert_array_equal(to_uint8(every / np.float32(255)), every)


def test_floats_are_compared_after_rounding():
  prediction, reference = pair()
  nearly = reference / 255 + 0.4 / 255
  assert psnr(np.clip(nearly, 0, 1), reference) == math.inf
  assert psnr(prediction / 255, reference / np.float32(255)) == psnr(prediction, reference)
  assert ssim(prediction / 255, reference / np.float32(255)) == ssim(prediction, reference)


def test_gt_mean_takes_out_a_factor_of_brightness_and_nothing_else():
  _, reference = pair()
  darker = np.rint(reference / 2).astype(np.uint8)
  grey = lambda image: (image @ np.array([0.299, 0.587, 0.114])).mean()
  scaled = with_mean_of(reference, darker)
  assert grey(255 * scaled) == pytest.approx(grey(reference), rel=1e-12)
  np.testing.assert_allclose(255 * scaled, darker * (grey(reference) / grey(darker)), rtol=1e-12)
  assert psnr(scaled, reference) > 45 > 20 > psnr(darker, reference)
  red = darker * np.array([1, 0, 0], np.uint8)  # colour stays what it was
  assert not with_mean_of(reference, red)[..., 1:].any()
  assert with_mean_of(darker, np.full_like(darker, 255)).max() < 1 and with_mean_of(reference, darker).max() <= 1
  np.testing.assert_array_equal(with_mean_of(reference, np.zeros_like(reference)), 0)


def test_psnr_is_its_formula():
  prediction, reference = pair()
  error = np.mean((prediction.astype(float) - reference.astype(float)) ** 2)
  assert psnr(prediction, reference) == pytest.approx(20 * math.log10(255) - 10 * math.log10(error), abs=1e-9)
  assert psnr(np.full((2, 2, 3), 10, np.uint8), np.full((2, 2, 3), 20, np.uint8)) == pytest.approx(28.1308, abs=1e-4)


def test_ssim_agrees_with_another_library():
  prediction, reference = pair()
  other = dm_pix.ssim(prediction / np.float32(255), reference / np.float32(255), filter_size=11, filter_sigma=1.5)
  assert ssim(prediction, reference) == pytest.approx(float(other), abs=1e-4)
  assert 0.5 < ssim(prediction, reference) < 0.99


def test_equal_images_are_perfect_and_fit_json():
  _, reference = pair()
  assert psnr(reference, reference) == math.inf and ssim(reference, reference) == 1
  figures = {"psnr": finite_or_none(psnr(reference, reference)), "ssim": finite_or_none(0.5)}
  assert json.loads(json.dumps(figures, allow_nan=False)) == {"psnr": None, "ssim": 0.5}


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_what_cannot_be_compared_is_refused(metric):
  prediction, reference = pair()
  for wrong in (prediction[1:], prediction[..., :1], prediction[..., 0], prediction[None]):
    with pytest.raises(UserError, match="cannot be compared"):
      metric(wrong, reference)
  for wrong in (reference[..., :1], reference[..., 0], reference[None]):
    with pytest.raises(UserError, match="cannot be compared"):
      metric(wrong, wrong)
  with pytest.raises(UserError, match="not finite"):
    metric(np.full(reference.shape, np.nan), reference)
  with pytest.raises(UserError, match="int64"):
    metric(prediction.astype(np.int64), reference)


def test_ssim_needs_room_for_its_window():
  prediction, reference = pair()
  assert ssim(prediction[:11, :11], reference[:11, :11]) < 1
  with pytest.raises(UserError, match="31x10 pixels"):
    ssim(prediction[:10], reference[:10])


def test_the_protocol_is_one_line():
  assert "\n" not in PROTOCOL and "PSNR" in PROTOCOL and "SSIM" in PROTOCOL
