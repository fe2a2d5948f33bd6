"""The darkening model against its stated equation, and the built-in set."""

import numpy as np
import pytest
from PIL import Image

from ruas_jax.data.opening import open_pairs, open_source
from ruas_jax.data.sources import ImageArrays
from ruas_jax.data.synthetic import Conditions, Darkened, builtin_pairs, darken, darkened_folder
from ruas_jax.errors import UserError

NOISELESS = {"full_well": 1e14, "read_noise": 0.0}


def to_linear(encoded):
  """The sRGB curve as IEC 61966-2-1 prints it."""
  return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def test_without_noise_and_at_full_exposure_the_image_returns():
  image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
  dark = darken(image, rng=np.random.default_rng(1), exposure=1.0, unevenness=0.0, **NOISELESS)
  assert np.array_equal(dark, image) and dark.dtype == np.uint8


def test_exposure_scales_linear_light():
  image = np.full((8, 8, 3), 200, np.uint8)
  dark = darken(image, rng=np.random.default_rng(0), exposure=0.1, unevenness=0.0, **NOISELESS)
  half_a_level = 0.5 / 255
  expected = 0.1 * to_linear(200 / 255)
  assert np.all(to_linear(dark / 255 - half_a_level) <= expected)
  assert np.all(to_linear(dark / 255 + half_a_level) >= expected)


def test_unevenness_is_smooth_spans_its_range_and_is_alike_for_all_colours():
  image = np.full((64, 48, 3), 255, np.uint8)
  dark = darken(image, rng=np.random.default_rng(0), exposure=0.5, unevenness=1.0, **NOISELESS)
  light = to_linear(dark / 255)
  assert np.array_equal(dark[..., 0], dark[..., 2])
  assert np.log(light.max() / light.min()) == pytest.approx(1.0, abs=0.02)
  assert light.max() == pytest.approx(0.5, abs=0.005)
  assert np.abs(np.diff(light[..., 0], axis=0)).max() < 0.03


def test_noise_has_the_poisson_gaussian_variance():
  image = np.full((256, 256, 3), 255, np.uint8)
  full_well, exposure, read_noise = 1000.0, 0.3, 10.0
  dark = darken(
    image, rng=np.random.default_rng(0), exposure=exposure, unevenness=0.0, full_well=full_well, read_noise=read_noise
  )
  electrons = full_well * to_linear(dark / 255)
  assert electrons.mean() == pytest.approx(full_well * exposure, rel=0.01)
  assert electrons.var() == pytest.approx(full_well * exposure + read_noise**2, rel=0.03)


def test_darkened_depends_on_seed_and_index_only():
  image = np.full((16, 16, 3), 180, np.uint8)
  source = ImageArrays(["a", "b"], [image, image])
  first, again, other = Darkened(source, seed=0), Darkened(source, seed=0), Darkened(source, seed=1)
  again[0]
  assert np.array_equal(first[1], again[1]) and np.array_equal(first[-1], first[1])
  assert not np.array_equal(first[0], first[1]) and not np.array_equal(first[0], other[0])
  assert first.names == ["a", "b"] and first.sizes() == [(16, 16), (16, 16)]
  with pytest.raises(IndexError):
    first[2]


def test_darkened_exposures_stay_in_their_range():
  image = np.full((24, 24, 3), 255, np.uint8)
  best_lit = [to_linear(np.percentile(Darkened(ImageArrays("a", [image]), seed=s)[0], 99) / 255) for s in range(40)]
  least, most = Conditions().exposure
  assert min(best_lit) > least * 0.8 and max(best_lit) < most * 1.4
  assert max(best_lit) > 2 * min(best_lit)


@pytest.mark.parametrize(("part", "count"), [("train", 6), ("evaluation", 4)])
def test_builtin_is_dark_noisy_and_deterministic(part, count):
  pairs = builtin_pairs(part)
  assert len(pairs) == len(set(pairs.names)) == count
  for (low, high), (again, _) in zip(pairs, builtin_pairs(part), strict=True):
    assert np.array_equal(low, again)
    assert low.dtype == high.dtype == np.uint8 and low.shape == high.shape
    assert min(low.shape[:2]) >= 160 and max(low.shape[:2]) <= 256
    assert 0.01 < low.mean() / 255 < 0.2 < high.mean() / 255
  means = [low.mean() / 255 for low, _ in pairs]
  assert 0.04 < np.mean(means) < 0.15


def test_builtin_parts_share_no_photograph():
  photographs = [{name.rsplit("-", 1)[0] for name in builtin_pairs(part).names} for part in ("train", "evaluation")]
  assert not photographs[0] & photographs[1]


def test_builtin_specs():
  assert open_source("builtin").names == builtin_pairs("train").names
  assert open_pairs("builtin").names == builtin_pairs("evaluation").names
  assert open_source("builtin:evaluation").names == open_pairs("builtin:evaluation").low.names
  assert np.array_equal(open_source("builtin:train")[2], builtin_pairs("train")[2][0])
  with pytest.raises(UserError, match="builtin:test does not exist; write builtin:train or builtin:evaluation"):
    open_source("builtin:test")


def test_each_colour_of_the_light_counts_for_itself():
  image = np.full((8, 8, 3), 200, np.uint8)
  rng = np.random.default_rng(0)
  dark = darken(image, rng=rng, exposure=0.5, unevenness=0.0, light=(1.0, 0.5, 0.25), **NOISELESS)
  expected = 0.5 * to_linear(200 / 255) * np.array([1.0, 0.5, 0.25])
  assert np.all(to_linear(dark / 255 - 0.5 / 255) <= expected)
  assert np.all(to_linear(dark / 255 + 0.5 / 255) >= expected)


def test_softness_makes_the_noise_of_neighbours_alike():
  image = np.full((64, 64, 3), 120, np.uint8)
  alike = []
  for softness in (0.0, 0.8):
    rng = np.random.default_rng(0)
    dark = darken(image, rng=rng, exposure=0.1, unevenness=0.0, softness=softness).astype(float)
    alike.append(np.corrcoef(dark[:, 1:].ravel(), dark[:, :-1].ravel())[0, 1])
  assert abs(alike[0]) < 0.05 and alike[1] > 0.5


def test_a_folder_in_the_dark_is_wide_in_exposure_and_the_same_every_time(tmp_path):
  rng = np.random.default_rng(0)
  Image.fromarray(rng.integers(100, 256, (700, 40, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
  source = open_source(f"darkened:{tmp_path}")
  assert len(source) == 12 and source.names[0] == "photo.png-1" and source.sizes() == [(640, 37)] * 12
  images = [image for image in source]
  assert all(image.shape == (640, 37, 3) for image in images)
  means = [image.mean() for image in images]
  assert max(means) > 3 * min(means)
  assert np.array_equal(darkened_folder(str(tmp_path))[3], images[3])
