"""The data of a run: elements by number, each a pytree of numpy arrays with the same shapes."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from ruas_jax.errors import UserError

PyTree = Any


class Source(Protocol):
  """Elements by number: anything with `__len__` and `__getitem__`.

  It may also have two methods. `spec()` returns a pytree of `jax.ShapeDtypeStruct` without reading an element.
  `check()` raises UserError if an element cannot be read; it is called once before a long run streams the data.
  """

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> PyTree: ...


class Arrays:
  """A pytree of arrays with one leading axis as a source.

  Raises:
    UserError: the tree holds no array, a leaf has no axis, or the leading axes differ.
  """

  def __init__(self, name: str, tree: PyTree):
    """`name` is the name of the data in errors."""
    leaves = jax.tree.leaves_with_path(tree)
    if not leaves:
      raise UserError(f"{name}: holds no array")
    lengths = {}
    for path, leaf in leaves:
      where = f"{name}{jax.tree_util.keystr(path)}"
      if np.ndim(leaf) == 0:
        raise UserError(f"{where}: must have a leading axis of elements, but is a single number")
      lengths[where] = len(leaf)
    if len(set(lengths.values())) > 1:
      listed = ", ".join(f"{where} {length}" for where, length in lengths.items())
      raise UserError(f"{name}: all arrays must have the same leading axis, but their lengths are {listed}")
    self._tree = jax.tree.map(np.asarray, tree)

  def __len__(self) -> int:
    return len(jax.tree.leaves(self._tree)[0])

  def __getitem__(self, index: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[index], self._tree)

  def spec(self) -> PyTree:
    """Shapes and dtypes of an element."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), self._tree)

  def take(self, indices: np.ndarray) -> PyTree:
    """The elements at `indices`, stacked."""
    return jax.tree.map(lambda leaf: leaf[indices], self._tree)


class Part:
  """The elements of `source` at `indices`, in that order. Parts of one source share its copy in device memory."""

  def __init__(self, source: Source, indices: Sequence[int] | np.ndarray):
    self.source, self.indices = source, np.asarray(indices, np.int64)

  def __len__(self) -> int:
    return len(self.indices)

  def __getitem__(self, index: int) -> PyTree:
    return self.source[int(self.indices[index])]

  def spec(self) -> PyTree:
    """Shapes and dtypes of an element."""
    return spec_of(self.source)

  def check(self) -> None:
    """Raises UserError if an element of this part cannot be read."""
    read_each(self.source, self.indices)


def as_source(name: str, data: Any) -> Source:
  """The data as a source. They are a pytree of arrays or a source already; `name` is their name in errors.

  Raises:
    UserError: the data are empty, or neither a pytree nor a source.
  """
  is_tree = isinstance(data, np.ndarray | jax.Array | dict | list | tuple)
  if not is_tree and not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
    raise UserError(f"{name}: must be a pytree of arrays or have __len__ and __getitem__, not {type(data).__name__}")
  source = Arrays(name, data) if is_tree else data
  if not len(source):
    raise UserError(f"{name}: holds no element")
  return source


def spec_of(source: Source) -> PyTree:
  """Shapes and dtypes of an element, as `jax.ShapeDtypeStruct`s."""
  spec = getattr(source, "spec", None)
  if spec is not None:
    return spec()
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), np.asarray(leaf).dtype), source[0])


def element_bytes(source: Source) -> int:
  """Size of one element in bytes."""
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(spec_of(source)))


def base_of(source: Source) -> tuple[Source, np.ndarray]:
  """The base source under all nested parts, and the indices in it of `source`'s elements."""
  indices = np.arange(len(source))
  while isinstance(source, Part):
    source, indices = source.source, source.indices[indices]
  return source, indices


def stack(source: Source, indices: Sequence[int] | np.ndarray) -> PyTree:
  """The elements at `indices` along a new leading axis.

  Raises:
    UserError: an element cannot be read (one line for each), or an element has other shapes than the first.
  """
  if isinstance(source, Arrays):
    return source.take(np.asarray(indices))
  spec = spec_of(source)
  stacked = jax.tree.map(lambda leaf: np.empty((len(indices), *leaf.shape), leaf.dtype), spec)

  def put(position, element):
    require_same(f"element {indices[position]}", element, spec)
    for rows, leaf in zip(jax.tree.leaves(stacked), jax.tree.leaves(element), strict=True):
      rows[position] = leaf

  read_each(source, indices, put)
  return stacked


def read_each(
  source: Source,
  indices: Sequence[int] | np.ndarray,
  use: Callable[[int, PyTree], None] = lambda position, element: None,
) -> None:
  """Calls `use(position, element)` for every index. Then raises UserError with a line for each element not read."""
  with all_failures() as attempt:
    for position, index in enumerate(indices):
      attempt(lambda position=position, index=index: use(position, source[int(index)]))


@contextlib.contextmanager
def all_failures() -> Iterator[Callable[[Callable[[], None]], None]]:
  """Context that collects errors: `attempt(action)` continues after a UserError; the end raises one with all lines."""
  failures = []

  def attempt(action):
    try:
      action()
    except UserError as error:
      failures.append(str(error))

  yield attempt
  if failures:
    raise UserError("\n".join(failures))


def require_same(name: str, element: PyTree, spec: PyTree) -> None:
  """Raises UserError if the element's structure, or a leaf's shape or dtype, differs from `spec`."""
  found = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), element)
  structure, expected_structure = jax.tree.structure(found), jax.tree.structure(spec)
  if structure != expected_structure:
    raise UserError(f"{name}: its structure is {structure}, but other elements have {expected_structure}")
  for (path, leaf), expected in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(spec), strict=True):
    if (leaf.shape, leaf.dtype) != (expected.shape, expected.dtype):
      where = f"{name}{jax.tree_util.keystr(path)}"
      raise UserError(f"{where}: is {in_words(leaf)}, but other elements have {in_words(expected)}")


def in_words(leaf: jax.ShapeDtypeStruct) -> str:
  """Dtype and shape for errors, such as `float32[3, 4]`."""
  return f"{leaf.dtype}{list(leaf.shape)}"


def split_in_half(source: Source, *, seed: int) -> tuple[Part, Part]:
  """Random halves (training, validation) without common elements, by `half_indices`."""
  train, validation = half_indices(len(source), seed=seed)
  return Part(source, train), Part(source, validation)


def half_indices(count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Sorted indices of two random halves of `count` elements. If the number is odd, the first has one more.

  Raises:
    UserError: there are fewer than two elements.
  """
  if count < 2:
    raise UserError("one element cannot be split into training and validation data; add elements or validation data")
  order, first = np.random.default_rng(seed).permutation(count), count - count // 2
  return np.sort(order[:first]), np.sort(order[first:])
