"""The LOL builder on a made-up copy of the data set, without TensorFlow."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ruas_jax.data.lol import open_lol
from ruas_jax.data.opening import open_pairs, open_source
from ruas_jax.data.padded import padded
from ruas_jax.engine.stream import make_batches
from ruas_jax.errors import UserError


def write_pairs(folder, names, *, size=(8, 8)):
  for index, name in enumerate(names):
    for part, value in (("low", 10), ("high", 200)):
      (folder / part).mkdir(parents=True, exist_ok=True)
      pixels = np.full((*size, 3), value, np.uint8)
      pixels[0, 0] = (index, len(name), 255)
      Image.fromarray(pixels).save(folder / part / f"{name}.png")


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
  """A folder of TFDS data sets in whose manual folder lie 110 pairs, 4 of them in eval15."""
  root = tmp_path_factory.mktemp("tfds")
  write_pairs(root / "downloads" / "manual" / "our485", [str(number) for number in range(2, 108)])
  write_pairs(root / "downloads" / "manual" / "eval15", [str(number) for number in (1, 108, 109, 110)], size=(6, 10))
  return root


def test_official_is_the_split_of_the_folders(tfds_dir):
  train, test = (open_pairs(f"tfds:lol/official:{split}", tfds_dir=tfds_dir) for split in ("train", "test"))
  assert train.names == sorted(str(number) for number in range(2, 108))
  assert test.names == ["1", "108", "109", "110"]
  assert set(train.low.sizes()) == {(8, 8)} and set(test.high.sizes()) == {(6, 10)}
  low, high = test[2]
  assert low.shape == (6, 10, 3) and low.dtype == np.uint8
  assert tuple(low[0, 0]) == tuple(high[0, 0]) == (2, 3, 255) and np.all(low[1:] == 10) and np.all(high[1:] == 200)
  assert len(list(train)) == 106


def test_paper_is_a_seeded_split_of_all_pairs(tfds_dir):
  train, test = (open_pairs(f"tfds:lol/paper:{split}", tfds_dir=tfds_dir) for split in ("train", "test"))
  assert (len(train), len(test)) == (10, 100)
  assert sorted(train.names + test.names) == sorted(str(number) for number in range(1, 111))
  assert train.names == ["103", "110", "14", "18", "24", "35", "68", "77", "82", "94"]
  for name, (low, _) in zip(test.names, test, strict=True):
    assert low[0, 0, 1] == len(name)


def test_a_prepared_data_set_needs_no_copy(tfds_dir, tmp_path):
  open_lol("lol/official:test", tfds_dir=tmp_path, manual_dir=tfds_dir / "downloads" / "manual")
  assert not (tmp_path / "downloads" / "manual").exists()
  assert open_source("tfds:lol/official:test", tfds_dir=tmp_path).names == ["1", "108", "109", "110"]


def test_it_feeds_batches(tfds_dir):
  iterator = make_batches(padded(open_source("tfds:lol/official:test", tfds_dir=tfds_dir)), batch_size=4, seed=0)
  batch = next(iterator)
  iterator.close()
  assert batch["image"].shape == (4, 6, 10, 3) and sorted(batch["image"][:, 0, 0, 0]) == [0, 1, 2, 3]


def test_paper_needs_more_than_its_test_pairs(tmp_path):
  write_pairs(tmp_path / "copy" / "our485", [str(number) for number in range(100)], size=(1, 1))
  with pytest.raises(UserError, match="holds 100 pairs; lol/paper needs more than 100"):
    open_lol("lol/paper:train", tfds_dir=tmp_path / "tfds", manual_dir=tmp_path / "copy")


def test_paper_refuses_a_pair_that_lies_in_two_folders(tmp_path):
  for folder in ("our485", "copy"):
    write_pairs(tmp_path / "manual" / folder, ["7"])
  with pytest.raises(UserError, match="more than one pair named 7"):
    open_lol("lol/paper:train", tfds_dir=tmp_path / "tfds", manual_dir=tmp_path / "manual")


def test_what_is_wrong_is_said_in_one_line(tmp_path):
  with pytest.raises(UserError, match="tfds:lol/official:validation does not exist; choose one of tfds:lol"):
    open_pairs("tfds:lol/official:validation", tfds_dir=tmp_path)
  with pytest.raises(UserError, match="needs the folder of TFDS data sets"):
    open_source("tfds:lol/official:train")
  with pytest.raises(UserError, match=r"neither prepared in .* nor present in .*manual"):
    open_source("tfds:lol/official:train", tfds_dir=tmp_path)
  (tmp_path / "downloads" / "manual").mkdir(parents=True)
  with pytest.raises(UserError, match=r"neither prepared in .* nor present in .*manual"):
    open_source("tfds:lol/official:train", tfds_dir=tmp_path)
  write_pairs(tmp_path / "downloads" / "manual" / "our485", ["1"])
  with pytest.raises(UserError, match="eval15/low does not exist"):
    open_source("tfds:lol/official:train", tfds_dir=tmp_path)


def test_a_broken_file_is_named_and_nothing_half_made_is_left(tmp_path):
  manual = tmp_path / "manual"
  for folder in ("our485", "eval15"):
    write_pairs(manual / folder, ["1", "2"], size=(30, 30))
  path = manual / "our485" / "low" / "2.png"
  whole = path.read_bytes()
  path.write_bytes(whole[:-40])
  with pytest.raises(UserError, match=r"our485/low/2\.png"):
    open_lol("lol/official:train", tfds_dir=tmp_path / "tfds", manual_dir=manual)
  path.write_bytes(whole)
  assert open_lol("lol/official:train", tfds_dir=tmp_path / "tfds", manual_dir=manual).names == ["1", "2"]


@pytest.mark.parametrize(
  ("module", "absent"),
  [("ruas_jax.data", "tensorflow_datasets"), ("ruas_jax.data", "tensorflow"), ("ruas_jax.data.lol", "tensorflow")],
)
def test_imports_stay_light(module, absent):
  command = f"import sys, {module}; sys.exit({absent!r} in sys.modules)"
  assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
