"""Sources of images: a source is a sequence of images, and `Pairs` joins two sources.

`source[i]` is a whole RGB image, uint8 [H, W, 3]; `source.names[i]` is its name, and `source.sizes()[i]` is its
(height, width), known without decoding. An image is decoded at every access, so a long source needs little memory.
`pairs[i]` is `(low, high)`.
"""

import abc
from collections.abc import Sequence

import numpy as np
from etils import epath

from ruas_jax.data.decoding import image_size, read_image
from ruas_jax.data.formats import IMAGE_SUFFIXES
from ruas_jax.engine.sources import half_indices
from ruas_jax.errors import UserError


class ImageSource(Sequence[np.ndarray], abc.ABC):
  """A sequence of RGB images, uint8 [H, W, 3], with a name for each."""

  names: list[str]

  def __len__(self) -> int:
    return len(self.names)

  @abc.abstractmethod
  def sizes(self) -> list[tuple[int, int]]:
    """(height, width) of every image, equal to those of `self[i]`."""


class ImageFolder(ImageSource):
  """The images in a folder, sorted by name, and rotated upright by their EXIF orientation.

  Raises:
    UserError: the folder is missing or holds no image; or, on access, an image cannot be read.
  """

  def __init__(self, folder: epath.PathLike):
    self.paths = list_images(folder)
    self.names = [path.name for path in self.paths]
    self._sizes: list[tuple[int, int]] | None = None

  def __getitem__(self, index: int) -> np.ndarray:
    return read_image(self.paths[index])

  def sizes(self) -> list[tuple[int, int]]:
    if self._sizes is None:
      self._sizes = [image_size(path) for path in self.paths]
    return self._sizes


class ImageArrays(ImageSource):
  """Images in memory. `ImageArrays(source.names, source)` decodes a whole source once."""

  def __init__(self, names: Sequence[str], images: Sequence[np.ndarray]):
    self.names, self._images = list(names), list(images)

  def __getitem__(self, index: int) -> np.ndarray:
    return self._images[index]

  def sizes(self) -> list[tuple[int, int]]:
    return [image.shape[:2] for image in self._images]


class Subset(ImageSource):
  """The images of `source` at `indices`, in that order."""

  def __init__(self, source: ImageSource, indices: Sequence[int] | np.ndarray):
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
      raise UserError(f"{len(low)} low-light images cannot pair with {len(high)} references; the numbers must be equal")
    for name, (height, width), (reference_height, reference_width) in zip(
      self.names, low.sizes(), high.sizes(), strict=True
    ):
      if (height, width) != (reference_height, reference_width):
        raise UserError(
          f"pair {name}: low is {width}x{height} but high is {reference_width}x{reference_height}; use equal sizes"
        )

  def __len__(self) -> int:
    return len(self.low)

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    return self.low[index], self.high[index]

  def subset(self, indices: Sequence[int] | np.ndarray) -> "Pairs":
    """The pairs at `indices`, in that order."""
    return Pairs(Subset(self.low, indices), Subset(self.high, indices), names=[self.names[index] for index in indices])


class PairFolders(Pairs):
  """Pairs from two folders, matched by file stem, which is the pair's name.

  Raises:
    UserError: a folder is missing or empty, a file has no partner, two files have the same stem, or the sizes of a pair
      differ.
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
  """The image files directly in `folder`, sorted by name, without hidden files.

  Raises:
    UserError: the folder does not exist, is not a folder, or holds no image.
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


def split_pairs(count: int, parts: Sequence[int], *, seed: int) -> list[np.ndarray]:
  """Disjoint random samples of `range(count)` with the sizes in `parts`; the indices in a sample are sorted.

  Raises:
    UserError: the parts need more than `count` elements.
  """
  if sum(parts) > count:
    raise UserError(f"a split into {' + '.join(map(str, parts))} needs {sum(parts)} images, but there are {count}")
  order = np.random.default_rng(seed).permutation(count)
  return [np.sort(part) for part in np.split(order, np.cumsum(parts))[:-1]]


def split_in_half(source: ImageSource, *, seed: int) -> tuple[Subset, Subset]:
  """Random halves (training, validation) without common images, by `half_indices`.

  Raises:
    UserError: fewer than two images.
  """
  train, validation = half_indices(len(source), seed=seed)
  return Subset(source, train), Subset(source, validation)


def _index_by_stem(folder):
  indices = {}
  for index, path in enumerate(folder.paths):
    if path.stem in indices:
      raise UserError(
        f"{folder.paths[indices[path.stem]]} and {path.name} differ only in the extension, so the partner is unclear; "
        "rename one"
      )
    indices[path.stem] = index
  return indices
