"""Where images come from: folders, pairs of folders and named data sets, opened by one short text, the *spec*.

A source is a sequence: `len(source)`, `source[i]` is one whole RGB image, uint8 [H, W, 3], `source.names[i]` its name
and `source.sizes()[i]` its (height, width), known without decoding. An image is decoded anew at every access, so a
source of any length is small in memory. `Pairs` joins two sources: `pairs[i]` is `(low, high)`.

Specs, for `open_source` (low-light images) and `open_pairs` (low-light images with references):

  FOLDER                      images for `open_source`; for `open_pairs`, a folder that holds `low/` and `high/`
  builtin[:train|evaluation]  the built-in set; by default train for `open_source`, evaluation for `open_pairs`
  darkened:FOLDER             photographs in good light, darkened by a physical model; for `open_source` alone
  fivek:train|test:FOLDER     the seeded 500/100 split of a folder that holds `low/` and `high/`
  tfds:lol/CONFIG:SPLIT       LOL, prepared in `tfds_dir`: CONFIG official or paper, SPLIT train or test

A folder whose own name begins like a spec is written `./builtin`.
"""

import abc
import struct
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from etils import epath
from PIL import ExifTags, Image

from ruas_jax.data.formats import FORMATS, IMAGE_SUFFIXES
from ruas_jax.errors import UserError

FIVEK_COUNTS = (500, 100)

_FORMATS = sorted(name.upper() for name in set(FORMATS.values()))  # as Pillow spells them
_TURNS = {  # EXIF orientation -> what makes the picture upright
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
# What Pillow raises for a damaged file, depending on the format and on where the damage lies.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, struct.error)


class ImageSource(Sequence[np.ndarray], abc.ABC):
  """A sequence of RGB images, uint8 [H, W, 3], with a name for each."""

  names: list[str]

  def __len__(self) -> int:
    return len(self.names)

  @abc.abstractmethod
  def sizes(self) -> list[tuple[int, int]]:
    """(height, width) of every image, as `self[i]` will deliver it."""


class ImageFolder(ImageSource):
  """The images of one folder, sorted by name, turned upright by their EXIF orientation.

  Raises:
    UserError: the folder is missing or holds no image; on access, an image that cannot be read.
  """

  def __init__(self, folder: epath.PathLike):
    self.paths = list_images(folder)
    self.names = [path.name for path in self.paths]
    self._sizes: list[tuple[int, int]] | None = None

  def __getitem__(self, index: int) -> np.ndarray:
    return read_image(self.paths[index])

  def sizes(self) -> list[tuple[int, int]]:
    if self._sizes is None:
      self._sizes = [_with_image(path, _upright_size) for path in self.paths]
    return self._sizes


class ImageArrays(ImageSource):
  """Images already in memory; `ImageArrays(source.names, source)` decodes a whole source once."""

  def __init__(self, names: Sequence[str], images: Sequence[np.ndarray]):
    self.names, self._images = list(names), list(images)

  def __getitem__(self, index: int) -> np.ndarray:
    return self._images[index]

  def sizes(self) -> list[tuple[int, int]]:
    return [image.shape[:2] for image in self._images]


class Subset(ImageSource):
  """The images of `source` at `indices`, in that order."""

  def __init__(self, source: ImageSource, indices: Sequence[int]):
    self.source, self.indices = source, [int(index) for index in indices]
    self.names = [source.names[index] for index in self.indices]

  def __getitem__(self, index: int) -> np.ndarray:
    return self.source[self.indices[index]]

  def sizes(self) -> list[tuple[int, int]]:
    sizes = self.source.sizes()
    return [sizes[index] for index in self.indices]


class Pairs(Sequence[tuple[np.ndarray, np.ndarray]]):
  """Low-light images and their references: `pairs[i]` is `(low, high)`, `pairs.low` and `pairs.high` are sources.

  Raises:
    UserError: the two sources differ in length, or a pair in size.
  """

  def __init__(self, low: ImageSource, high: ImageSource, *, names: Sequence[str] | None = None):
    self.low, self.high, self.names = low, high, list(low.names if names is None else names)
    if len(low) != len(high):
      raise UserError(f"{len(low)} low-light images cannot pair with {len(high)} references")
    for name, (height, width), (reference_height, reference_width) in zip(
      self.names, low.sizes(), high.sizes(), strict=True
    ):
      if (height, width) != (reference_height, reference_width):
        raise UserError(f"pair {name}: low is {width}x{height} but high is {reference_width}x{reference_height}")

  def __len__(self) -> int:
    return len(self.low)

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    return self.low[index], self.high[index]

  def subset(self, indices: Sequence[int]) -> "Pairs":
    """The pairs at `indices`, in that order."""
    return Pairs(Subset(self.low, indices), Subset(self.high, indices), names=[self.names[index] for index in indices])


class PairFolders(Pairs):
  """Pairs from two folders, matched by file stem, which is also the pair's name.

  Raises:
    UserError: a folder is missing or empty, a file has no partner, two files share a stem, or a pair differs in size.
  """

  def __init__(self, low: epath.PathLike, high: epath.PathLike):
    lows, highs = ImageFolder(low), ImageFolder(high)
    low_stems, high_stems = _index_by_stem(lows), _index_by_stem(highs)
    for source, others, folder in ((lows, high_stems, high), (highs, low_stems, low)):
      for path in source.paths:
        if path.stem not in others:
          raise UserError(f"{path} has no partner named {path.stem}.* in {folder}")
    super().__init__(lows, Subset(highs, [high_stems[stem] for stem in low_stems]), names=list(low_stems))


def list_images(folder: epath.PathLike) -> list[epath.Path]:
  """The image files directly in `folder`, sorted by name; hidden files are left out.

  Raises:
    UserError: the folder is missing, is not a folder, or holds no image.
  """
  folder = epath.Path(folder).expanduser()
  if not folder.exists():
    raise UserError(f"folder {folder} does not exist")
  if not folder.is_dir():
    raise UserError(f"{folder} is not a folder")
  paths = [
    path
    for path in folder.iterdir()
    if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
  ]
  if not paths:
    raise UserError(f"folder {folder} holds no image ({', '.join(IMAGE_SUFFIXES)})")
  return sorted(paths, key=lambda path: path.name)


def read_image(path: epath.PathLike) -> np.ndarray:
  """One image file as RGB uint8 [H, W, 3]: upright, grey repeated, alpha dropped, 16 bits scaled to 8.

  Raises:
    UserError: the file is missing, damaged, truncated, or of a kind that is not read.
  """
  return _with_image(path, _upright_rgb)


def decode_image(file: BinaryIO, *, name: str) -> np.ndarray:
  """As `read_image`, from an open binary file; `name` stands for it in the error."""
  return _guarded(file, _upright_rgb, name=name)


def decode_size(file: BinaryIO, *, name: str) -> tuple[int, int]:
  """(height, width) that `decode_image` would deliver, from the header alone."""
  return _guarded(file, _upright_size, name=name)


def split_pairs(count: int, parts: Sequence[int], *, seed: int) -> list[np.ndarray]:
  """Disjoint seeded samples of `range(count)`, one of each size in `parts`; indices sorted within a part.

  Raises:
    UserError: the parts need more than `count` elements.
  """
  if sum(parts) > count:
    raise UserError(f"a split into {' + '.join(map(str, parts))} needs {sum(parts)} images, but there are {count}")
  order = np.random.default_rng(seed).permutation(count)
  return [np.sort(part) for part in np.split(order, np.cumsum(parts))[:-1]]


def split_in_half(source: ImageSource, *, seed: int) -> tuple[Subset, Subset]:
  """Seeded halves (train, validation) that share no image; of an odd number, train has one more.

  Raises:
    UserError: fewer than two images.
  """
  if len(source) < 2:
    raise UserError(f"{source.names[0] if len(source) else 'nothing'} alone cannot be split into train and validation")
  half = len(source) // 2
  train, validation = split_pairs(len(source), (len(source) - half, half), seed=seed)
  return Subset(source, train), Subset(source, validation)


def split_fivek(pairs: Pairs, *, seed: int = 0) -> tuple[Pairs, Pairs]:
  """500 pairs for search and training and 100 for testing, sampled as the paper does from MIT-Adobe FiveK.

  The paper does not name its sample; this one is ours, fixed by `seed`.
  """
  train, test = split_pairs(len(pairs), FIVEK_COUNTS, seed=seed)
  return pairs.subset(train), pairs.subset(test)


def open_pairs(spec: epath.PathLike, *, tfds_dir: epath.PathLike | None = None) -> Pairs:
  """Pairs of low-light images and references from a spec (see the module's text).

  Raises:
    UserError: the spec names an unknown part, or what it names cannot be opened.
  """
  kind, _, rest = str(spec).partition(":")
  if kind == "builtin":
    from ruas_jax.data import synthetic  # it loads scikit-image

    return synthetic.builtin_pairs(rest or "evaluation")
  if kind == "tfds":
    from ruas_jax.data import lol  # it loads tensorflow-datasets

    return lol.open_lol(rest, tfds_dir=tfds_dir)
  if kind == "fivek":
    part, _, folder = rest.partition(":")
    if part not in ("train", "test") or not folder:
      raise UserError(f"{spec}: write fivek:train:FOLDER or fivek:test:FOLDER")
    return split_fivek(open_pairs(folder))[("train", "test").index(part)]
  return PairFolders(epath.Path(spec) / "low", epath.Path(spec) / "high")


def open_source(spec: epath.PathLike, *, tfds_dir: epath.PathLike | None = None) -> ImageSource:
  """Low-light images from a spec (see the module's text); of a spec that names pairs, the low ones.

  Raises:
    UserError: as `open_pairs`.
  """
  if str(spec) == "builtin":
    spec = "builtin:train"
  kind, _, rest = str(spec).partition(":")
  if kind == "darkened":
    from ruas_jax.data import synthetic  # it loads scikit-image

    return synthetic.darkened_folder(rest)
  if kind in ("builtin", "tfds", "fivek"):
    return open_pairs(spec, tfds_dir=tfds_dir).low
  return ImageFolder(spec)


def _index_by_stem(folder):
  indices = {}
  for index, path in enumerate(folder.paths):
    if path.stem in indices:
      raise UserError(f"{folder.paths[indices[path.stem]]} and {path.name} share a stem, so their partner is unclear")
    indices[path.stem] = index
  return indices


def _with_image(path, function):
  path = epath.Path(path)
  try:
    file = path.open("rb")
  except OSError as error:
    raise UserError(f"cannot read image {path}: {error.strerror or error}") from error
  with file:
    return _guarded(file, function, name=str(path))


def _guarded(file, function, *, name):
  try:
    with Image.open(file, formats=_FORMATS) as image:
      return function(image)
  except (Image.DecompressionBombError, NotImplementedError) as error:
    raise UserError(f"cannot read image {name}: {error}") from error
  except _DECODING_ERRORS as error:
    raise UserError(f"cannot read image {name}: damaged, truncated or not an image") from error


def _orientation(image):
  """As the header notes it; 1 for a TIFF, which Pillow turns itself, and where EXIF is damaged, as in any viewer."""
  if image.format == "TIFF":
    return 1
  try:
    # A PNG's own `getexif` would decode all pixels to look behind them.
    return Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
  except Exception:  # of many kinds
    return 1


def _upright_size(image):
  width, height = image.size
  return (width, height) if _orientation(image) in (5, 6, 7, 8) else (height, width)


def _upright_rgb(image):
  turn = _TURNS.get(_orientation(image))
  image = image if turn is None else image.transpose(turn)
  if image.mode in ("I", "F"):
    raise NotImplementedError("samples of 32 bits have no stated range; save it with 8 or 16")
  if image.mode.startswith("I;16"):  # Pillow's own conversion would clip at 255
    grey = np.round(np.asarray(image) / 257).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
  if image.mode in ("P", "PA"):
    image = image.convert("RGBA")  # else Pillow warns about palettes that carry transparency
  return np.asarray(image.convert("RGB"))
