"""Images on the device and streamed ones are the same batches; which of the two it is, and what is refused."""

import functools
import itertools

import jax
import numpy as np
import pytest
from tiny_problem import dark_images, truncate, write_images

from ruas_jax.data.crops import random_crops
from ruas_jax.data.padded import padded
from ruas_jax.data.sources import ImageArrays, ImageFolder, ImageSource, Subset, split_in_half
from ruas_jax.engine import feed as feed_file
from ruas_jax.engine.feed import DeviceFeed, Reading, StreamFeed, open_feed, open_population_feed
from ruas_jax.errors import UserError


class Counted(ImageSource):
  """Counts how often each image is decoded."""

  def __init__(self, images):
    self.names, self.images, self.decoded = [str(i) for i in range(len(images))], images, [0] * len(images)

  def __getitem__(self, index):
    self.decoded[index] += 1
    return self.images[index]

  def sizes(self):
    return [image.shape[:2] for image in self.images]


def reading(source, shape, seed):
  return Reading(padded(source), shape, seed)


def arrays(count, **size):
  return ImageArrays([str(position) for position in range(count)], dark_images(count, **size))


def steps_of(feed, counts):
  """The batches of every step, read so many at a time; each array is what the program would get."""
  steps = []
  for count in counts:
    elements = feed.read(count)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(elements)} == {feed.capacity}
    for step in range(count):
      element = jax.tree.map(lambda leaf: leaf[step], elements)
      steps.append(jax.tree.map(np.asarray, feed.fetch(feed.data, element)))
  feed.close()
  return steps


def assert_same_steps(one, other):
  assert len(one) == len(other)
  for a, b in zip(one, other, strict=True):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_device_and_stream_are_the_same_batches_however_many_are_read_at_once():
  train, validation = split_in_half(arrays(7), seed=3)
  readings = [reading(train, (2, 3), 6), reading(validation, (1, 2), 7), reading(arrays(2, height=30), (1,), 8)]
  device, again, stream = (open_feed(readings, placement=placement) for placement in ("auto", "auto", "stream"))
  assert isinstance(device, DeviceFeed) and isinstance(stream, StreamFeed)
  one = steps_of(device, [1, 4, 2, 5])
  assert one[0][0]["image"].shape == (2, 3, 16, 20, 3) and one[0][2]["image"].shape == (1, 30, 20, 3)
  assert_same_steps(one, steps_of(stream, [3, 3, 6]))
  assert_same_steps(one, steps_of(again, [12]))
  shown = {batch.tobytes() for step in one for batch in step[0]["image"].reshape(-1, 16, 20, 3)}
  assert shown == {image.tobytes() for image in train}


def test_every_image_is_decoded_once_and_lies_on_the_device_once():
  source = Counted(dark_images(6))
  halves = split_in_half(source, seed=0)
  feed = open_feed([reading(half, (1,), 0) for half in halves], placement="auto")
  feed.read(20)
  assert source.decoded == [1] * 6
  (pool,) = feed.data
  assert pool["image"].shape == (6, 16, 20, 3) and pool["image"].dtype == np.uint8
  some = Counted(dark_images(6))
  feed = open_feed([reading(Subset(Subset(some, [5, 1, 3]), [2, 0]), (1,), 0)], placement="device")
  assert some.decoded == [0, 0, 0, 1, 0, 1]  # no more than are shown
  seen = {step[0]["image"].tobytes() for step in steps_of(feed, [4])}
  assert seen == {some.images[3].tobytes(), some.images[5].tobytes()}


def test_members_share_the_images_and_keep_their_orders():
  source = arrays(6)
  members = [[reading(half, (1, 2), seed) for half in split_in_half(source, seed=seed)] for seed in (0, 1, 2)]
  feed = open_population_feed(members, placement="auto")
  assert len(feed.data) == 1
  both = steps_of(feed, [2, 3])
  for position, readings in enumerate(members):
    alone = steps_of(open_feed(readings, placement="auto"), [5])
    assert_same_steps([jax.tree.map(lambda leaf: leaf[position], step) for step in both], alone)


def test_images_of_mixed_sizes_give_the_same_crops():
  images = [*dark_images(3), *dark_images(2, width=24), *dark_images(2, height=40, seed=5)]
  halves = split_in_half(ImageArrays([str(position) for position in range(7)], images), seed=1)
  readings = [reading(half, (2,), position) for position, half in enumerate(halves)]
  feeds = [open_feed(readings, placement=placement) for placement in ("auto", "stream")]
  assert isinstance(feeds[0], DeviceFeed) and feeds[0].data[0]["image"].shape == (7, 40, 24, 3)
  crop = functools.partial(random_crops, key=jax.random.key(0), crop=16)
  assert_same_steps(*(jax.tree.map(crop, steps_of(feed, [4]), is_leaf=lambda x: "size" in x) for feed in feeds))
  open_population_feed([readings], placement="auto")


def test_images_that_do_not_fit_are_streamed_or_refused(monkeypatch):
  with pytest.raises(UserError, match=r"set `data.placement` to 'device', not 'stream'"):
    open_population_feed([[reading(arrays(2), (1,), 0)]], placement="stream")

  monkeypatch.setattr(feed_file, "_DEVICE_BYTES", 2 * (16 * 20 * 3 + 2 * 4))
  assert isinstance(open_feed([reading(arrays(2), (1,), 0)], placement="auto"), DeviceFeed)
  large = [reading(arrays(3), (1,), 0)]
  assert isinstance(open_feed(large, placement="auto"), StreamFeed)
  assert isinstance(open_feed(large, placement="device"), DeviceFeed)
  with pytest.raises(UserError, match=r"`data\.placement` to 'device' to put them there"):
    open_population_feed([large], placement="auto")
  open_population_feed([large], placement="device")


def test_a_stream_holds_a_bounded_memory(monkeypatch):
  monkeypatch.setattr(feed_file, "_STREAM_BYTES", 7 * 2 * (16 * 20 * 3 + 2 * 4))
  feed = StreamFeed([reading(arrays(3), (2, 1), 0)])
  assert feed.capacity == 7 and feed.read(1)[0]["image"].shape == (7, 2, 1, 16, 20, 3)
  feed.close()
  monkeypatch.setattr(feed_file, "_STREAM_BYTES", 1)
  assert StreamFeed([reading(arrays(3), (2, 1), 0)]).capacity == 1


@pytest.mark.parametrize("placement", ["auto", "stream"])
def test_every_damaged_image_is_named_before_the_first_step(placement, tmp_path):
  folder = write_images(tmp_path, dark_images(5))
  for position in (1, 3):
    truncate(folder / f"{position}.png")
  halves = split_in_half(ImageFolder(folder), seed=0)
  with pytest.raises(UserError) as error:
    open_feed([reading(half, (1,), 0) for half in halves], placement=placement)
  lines = sorted(str(error.value).splitlines())
  assert len(lines) == 2 and all(name in line for name, line in zip(("1.png", "3.png"), lines, strict=True))


def test_orders_of_neighbouring_steps_differ():
  feed = open_feed([reading(arrays(8), (8,), 0)], placement="auto")
  epochs = [element.tolist() for element in feed.read(3)[0][:3]]
  assert all(sorted(epoch) == list(range(8)) for epoch in epochs)
  assert all(a != b for a, b in itertools.pairwise(epochs))
