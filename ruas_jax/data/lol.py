"""LOL, pairs of low-light and normal-light photographs, as a TFDS builder for a local copy. It needs no TensorFlow.

The copy must be in TFDS's folder for manual downloads, `TFDS_DIR/downloads/manual`, or in a folder that is given as an
argument:

  our485/low/*.png  our485/high/*.png  eval15/low/*.png  eval15/high/*.png

Importing this module imports tensorflow-datasets. `ruas_jax.data` imports it only when LOL is requested.
"""

import io

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from ruas_jax.data.decoding import decode_image, decode_size
from ruas_jax.data.sources import ImageSource, PairFolders, Pairs, split_pairs
from ruas_jax.errors import UserError

PAPER_TEST_COUNT = 100
PAPER_SEED = 0

_INSTRUCTIONS = "Place our485/{low,high} and eval15/{low,high} of LOL there."


class Lol(tfds.core.GeneratorBasedBuilder):
  """The builder; features "low" and "high", RGB uint8 of any size, and "name", the file's stem.

  Configs:
    official: the split of LOL: train is `our485` (485 pairs), test is `eval15` (15).
    paper: every pair in `*/{low,high}`, sorted by name and permuted with a fixed seed; the last 100 are test. A copy
      with 789 pairs gives the numbers of the paper, 689 and 100; our485 and eval15 alone give 400 and 100. The paper
      does not list its test pairs, so this split is not the paper's.
  """

  VERSION = tfds.core.Version("1.0.0")
  MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS
  BUILDER_CONFIGS = [  # noqa: RUF012  (the name and the type are TFDS's)
    tfds.core.BuilderConfig(name="official", description="train our485, test eval15"),
    tfds.core.BuilderConfig(name="paper", description="a seeded split of all pairs, 100 of them test"),
  ]

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description="Low-light and normal-light photographs of the same scenes (Wei et al., BMVC 2018).",
      homepage="https://daooshee.github.io/BMVC2018website/",
      features=tfds.features.FeaturesDict(
        {
          "low": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
          "high": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
          "name": tfds.features.Text(),
        }
      ),
      disable_shuffling=True,  # keeps the records in sorted order
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
    folder = dl_manager.manual_dir
    assert self.builder_config
    if self.builder_config.name == "official":
      return {
        split: self._generate_examples([(pairs, index) for index in range(len(pairs))])
        for split, pairs in (("train", _pairs_in(folder / "our485")), ("test", _pairs_in(folder / "eval15")))
      }
    everything = _all_pairs(folder)
    train_count = len(everything) - PAPER_TEST_COUNT
    if train_count < 1:
      raise UserError(f"{folder} holds {len(everything)} pairs; lol/paper needs more than {PAPER_TEST_COUNT}")
    train, test = split_pairs(len(everything), (train_count, PAPER_TEST_COUNT), seed=PAPER_SEED)
    return {
      "train": self._generate_examples([everything[index] for index in train]),
      "test": self._generate_examples([everything[index] for index in test]),
    }

  def _generate_examples(self, examples):
    for number, (pairs, index) in enumerate(examples):
      low, high = pairs[index]
      yield number, {"low": _png(low), "high": _png(high), "name": pairs.names[index]}


class _LolImages(ImageSource):
  """One feature of a prepared split. Images of the other feature are not decoded."""

  def __init__(self, records, feature, names, sizes):
    self._records, self._feature, self.names, self._sizes = records, feature, names, sizes

  def __getitem__(self, index: int) -> np.ndarray:
    record = self._records[range(len(self))[index]]
    return decode_image(io.BytesIO(record[self._feature]), name=self.names[index])

  def sizes(self) -> list[tuple[int, int]]:
    return self._sizes


def open_lol(name: str, *, tfds_dir: epath.PathLike | None, manual_dir: epath.PathLike | None = None) -> Pairs:
  """The pairs of one split. The data set is prepared first if necessary.

  Args:
    name: for example "lol/official:train".
    tfds_dir: folder of the TFDS data sets.
    manual_dir: local copy of LOL, needed only to prepare the data set; None: `TFDS_DIR/downloads/manual`.

  Raises:
    UserError: the name is unknown, `tfds_dir` is missing, or the local copy is missing or unusable.
  """
  names = [f"lol/{config.name}:{split}" for config in Lol.BUILDER_CONFIGS for split in ("train", "test")]
  if name not in names:
    raise UserError(f"tfds:{name} does not exist; choose one of {', '.join(f'tfds:{known}' for known in names)}")
  if tfds_dir is None:
    raise UserError(f"tfds:{name} needs the folder of TFDS data sets: set `data.tfds_dir`")
  tfds_dir = epath.Path(tfds_dir).expanduser()
  manual_dir = epath.Path(manual_dir or tfds_dir / "downloads" / "manual").expanduser()
  config, split = name.removeprefix("lol/").split(":")
  builder = Lol(config=config, data_dir=tfds_dir, file_format="array_record")
  if not builder.is_prepared():
    if not manual_dir.is_dir() or not any(manual_dir.iterdir()):
      raise UserError(f"LOL is neither prepared in {tfds_dir} nor present in {manual_dir}. {_INSTRUCTIONS}")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
  skip = tfds.decode.SkipDecoding()
  decoders = {"low": skip, "high": skip}
  # TFDS wraps the method without its parameters' types.
  records = builder.as_data_source(split, decoders=decoders)  # pyright: ignore[reportCallIssue]
  names, sizes = [], {"low": [], "high": []}
  for record in records:  # one pass over the files, because every record contains the bytes of its images
    names.append(record["name"].decode())
    for feature, known in sizes.items():
      known.append(decode_size(io.BytesIO(record[feature]), name=names[-1]))
  return Pairs(*(_LolImages(records, feature, names, known) for feature, known in sizes.items()))


def _pairs_in(folder):
  return PairFolders(folder / "low", folder / "high")


def _all_pairs(folder):
  """[(pairs, index)] of every `*/{low,high}`, sorted by name. A repeated name would allow a pair in train and test."""
  found = {}
  for parent in sorted(folder.iterdir()):
    if not (parent / "low").is_dir() or not (parent / "high").is_dir():
      continue
    pairs = _pairs_in(parent)
    for index, name in enumerate(pairs.names):
      if name in found:
        raise UserError(f"{folder} holds more than one pair named {name}; lol/paper needs each pair once")
      found[name] = (pairs, index)
  return [found[name] for name in sorted(found)]


def _png(image):
  """The image as PNG bytes. TFDS stores files unchanged, so this makes every record an upright 8-bit RGB PNG."""
  file = io.BytesIO()
  Image.fromarray(image).save(file, "PNG", compress_level=1)  # several times faster than the default level
  file.seek(0)
  return file
