"""Batches in a seeded order with a state to resume from, and crops that depend on key and image alone."""

import json
from itertools import islice
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ruas_jax.data.crops import random_crops
from ruas_jax.data.opening import open_source
from ruas_jax.data.padded import check_crop, padded
from ruas_jax.data.sources import ImageArrays, ImageFolder
from ruas_jax.engine.stream import Order, make_batches
from ruas_jax.errors import UserError


def numbered(count, *, height=5, width=7):
  """Images whose every pixel is their own index."""
  return ImageArrays([f"n{i}" for i in range(count)], [np.full((height, width, 3), i, np.uint8) for i in range(count)])


def visits(source, *, batch_size, batches, seed=0):
  iterator = make_batches(padded(source), batch_size=batch_size, seed=seed)
  found = [int(image[0, 0, 0]) for batch in islice(iterator, batches) for image in batch["image"]]
  iterator.close()
  return found


@pytest.mark.parametrize("batch_size", [1, 3, 4, 25])
def test_every_epoch_visits_every_image_once_also_across_batches(batch_size):
  found = visits(numbered(10), batch_size=batch_size, batches=-(-40 // batch_size))
  epochs = [found[start : start + 10] for start in range(0, 40, 10)]
  assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 4


def test_the_order_follows_the_seed_alone():
  one, again, other_batch_size = (visits(numbered(9), batch_size=b, batches=36 // b) for b in (2, 2, 3))
  assert one == again == other_batch_size
  assert one == [Order(9, seed=0)[k] for k in range(36)]
  assert one != visits(numbered(9), batch_size=2, batches=18, seed=1)


def test_neighbouring_seeds_are_not_each_others_later_epochs():
  orders = [[Order(30, seed=seed)[k] for k in range(60)] for seed in (0, 1)]
  assert orders[0][30:] != orders[1][:30]


def test_small_images_are_padded_at_the_bottom_and_right():
  images = [np.full((4, 6, 3), 100, np.uint8), np.full((8, 3, 3), 200, np.uint8)]
  iterator = make_batches(padded(ImageArrays("ab", images)), batch_size=2, seed=0)
  batch = next(iterator)
  iterator.close()
  assert batch["image"].shape == (2, 8, 6, 3) and batch["image"].dtype == np.uint8
  assert batch["size"].dtype == np.int32
  for image, (height, width) in zip(batch["image"], batch["size"], strict=True):
    value = {(4, 6): 100, (8, 3): 200}[height, width]
    assert np.all(image[:height, :width] == value)
    assert image.sum(dtype=int) == 3 * value * height * width


def test_the_state_resumes_the_same_batches():
  source = numbered(7)
  iterator = make_batches(padded(source), batch_size=3, seed=5)
  for _ in range(4):
    next(iterator)
  state = json.loads(json.dumps(iterator.get_state()))
  expected = [next(iterator)["image"] for _ in range(5)]
  iterator.set_state(state)
  resumed = make_batches(padded(source), batch_size=3, seed=5)
  resumed.set_state(state)
  for batch in expected:
    assert np.array_equal(next(iterator)["image"], batch)
    assert np.array_equal(next(resumed)["image"], batch)
  iterator.close(), resumed.close()


def test_a_broken_image_surfaces_as_one_line_that_names_it(tmp_path):
  path = tmp_path / "broken.png"
  Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)).save(path)
  path.write_bytes(path.read_bytes()[:500])
  iterator = make_batches(padded(ImageFolder(tmp_path)), batch_size=2, seed=0)
  with pytest.raises(UserError) as caught:
    next(iterator)
  iterator.close()
  assert "broken.png" in str(caught.value) and "\n" not in str(caught.value)


def test_an_image_that_changes_its_size_is_named(tmp_path):
  path = tmp_path / "changing.png"
  Image.new("RGB", (4, 4)).save(path)
  iterator = make_batches(padded(ImageFolder(tmp_path)), batch_size=1, seed=0)
  Image.new("RGB", (4, 5)).save(path)
  with pytest.raises(UserError, match=r"changing\.png changed its size"):
    next(iterator)
  iterator.close()


def test_check_crop_names_the_first_image_that_is_too_small():
  source = ImageArrays("abc", [np.zeros((h, w, 3), np.uint8) for h, w in ((9, 9), (9, 8), (5, 9))])
  check_crop(source, 5)
  with pytest.raises(UserError, match="image b is 8x9, smaller than the crop of 9x9"):
    check_crop(source, 9)
  with pytest.raises(UserError, match="image c is 9x5"):
    check_crop(source, 6)


def coordinates(height, width):
  """An image that tells each pixel's own row and column."""
  rows, columns = np.mgrid[:height, :width]
  return np.stack([rows, columns, np.full_like(rows, 255)], -1).astype(np.uint8)


def padded_batch(images, height, width):
  batch = {"image": np.zeros((len(images), height, width, 3), np.uint8), "size": np.zeros((len(images), 2), np.int32)}
  for i, image in enumerate(images):
    batch["image"][i, : image.shape[0], : image.shape[1]] = image
    batch["size"][i] = image.shape[:2]
  return batch


crops_of_4 = jax.jit(lambda batch, key: random_crops(batch, key, crop=4))


def corners(crops):
  return np.round(255 * np.asarray(crops)[:, 0, 0, :2]).astype(int)


def test_crops_are_true_pieces_of_the_image_in_the_unit_range():
  image = coordinates(6, 9)
  crops = crops_of_4(padded_batch([image] * 8, 11, 12), jax.random.key(0))
  assert crops.shape == (8, 4, 4, 3) and crops.dtype == jnp.float32
  for crop, (top, left) in zip(crops, corners(crops), strict=True):
    np.testing.assert_allclose(crop, image[top : top + 4, left : left + 4] / 255, rtol=1e-6)


def test_crops_reach_every_place_evenly_and_none_in_the_padding():
  batch = padded_batch([coordinates(6, 9), coordinates(4, 5)] * 300, 20, 20)
  found = np.concatenate([corners(crops_of_4(batch, jax.random.key(seed))) for seed in range(4)])
  for offset, places in ((0, 18), (1, 2)):
    seen, counts = np.unique(found[offset::2], axis=0, return_counts=True)
    assert len(seen) == places
    assert seen.max(axis=0).tolist() == [[2, 5], [0, 1]][offset]
    expected = 1200 / places
    assert np.sum((counts - expected) ** 2) / expected < 45  # chi-squared; 17 degrees of freedom exceed 45 in 1 of 4000


def test_crops_do_not_depend_on_the_padding():
  images = [coordinates(7, 9), coordinates(9, 5), coordinates(4, 4)]
  tight, loose = (crops_of_4(padded_batch(images, *size), jax.random.key(3)) for size in ((9, 9), (30, 21)))
  assert np.array_equal(tight, loose)


def test_crops_follow_the_key_and_differ_between_images():
  batch = padded_batch([coordinates(40, 40)] * 16, 40, 40)
  one, again, other = (corners(crops_of_4(batch, jax.random.key(seed))) for seed in (0, 0, 1))
  assert np.array_equal(one, again) and not np.array_equal(one, other)
  assert len(np.unique(one, axis=0)) > 10
  assert np.array_equal(one, corners(random_crops(batch, jax.random.key(0), crop=4)))


def test_crops_do_not_depend_on_the_default_integer_width():
  batch = padded_batch([coordinates(40, 40)] * 4, 40, 40)
  key = jax.random.key(0)
  with jax.enable_x64(True):
    wide = corners(random_crops(batch, key, crop=4))
  assert np.array_equal(wide, corners(random_crops(batch, key, crop=4)))


def test_crops_are_vmappable_and_take_a_dtype():
  batch = padded_batch([coordinates(8, 8)] * 2, 8, 8)
  keys = jax.random.split(jax.random.key(0), 3)
  many = jax.vmap(lambda key: random_crops(batch, key, crop=4, dtype=jnp.bfloat16))(keys)
  assert many.shape == (3, 2, 4, 4, 3) and many.dtype == jnp.bfloat16
  assert np.array_equal(many[1], random_crops(batch, keys[1], crop=4, dtype=jnp.bfloat16))


def test_real_photographs_pass_through():
  folder = Path(__file__).parents[2] / "shared" / "data" / "lol" / "train" / "low"
  if not folder.is_dir():
    pytest.skip("the development photographs are not here")
  source = open_source(folder)
  assert set(source.sizes()) == {(400, 600)}
  iterator = make_batches(padded(source), batch_size=2, seed=0)
  crops = random_crops(next(iterator), jax.random.key(0), crop=64)
  iterator.close()
  assert crops.shape == (2, 64, 64, 3) and 0 < float(crops.mean()) < 0.4
