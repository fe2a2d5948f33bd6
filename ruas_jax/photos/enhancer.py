"""Running a model on images of any size, with few compiled programs and bounded memory.

Images are float32 NumPy arrays `[H, W, 3]` in [0, 1], whatever number format the model computes in. Images of one size
can be computed together, as `[B, H, W, 3]`.
"""

import dataclasses
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.engine.compiler import compiler_options
from ruas_jax.lowlight.illumination import brightness
from ruas_jax.lowlight.options import Precision
from ruas_jax.photos.model import Model, enhance_folded, fold
from ruas_jax.photos.sizes import TILE, Shapes, Span, split_image

Dtype = Literal["float32", "bfloat16"]
Read = Callable[
  [slice, slice], np.ndarray
]  # (rows, columns) of an image, or of B images -> float32 [h, w, 3] or [B, h, w, 3]

_AHEAD = 1  # windows that are computed while the result of another is awaited


class Part(NamedTuple):
  """A part of a result: `values`, float32 `[h, w, 3]` or `[B, h, w, 3]`, for these rows and columns."""

  rows: slice
  columns: slice
  values: np.ndarray


class Plan(NamedTuple):
  """How images of one size are computed: the windows, the `shape` of their arrays, the compiled program, and the
  measure of brightness whose mean over the image the program needs, or None."""

  rows: list[Span]
  columns: list[Span]
  shape: tuple[int, int]
  program: Callable[[np.ndarray, np.ndarray, np.ndarray], jax.Array]
  measure: str | None

  def parts(self, read: Read, means: np.ndarray | None = None) -> Iterator[Part]:
    """Computes the result part by part. It calls `read` for one window after the other. `means`, `[B]`, takes the place
    of the mean brightness of the whole images, from which an adaptive model chooses its exposure."""
    under_way, mean = deque(), np.zeros(1)
    if self.measure:
      mean = self._mean(read, self.measure) if means is None else means
    for rows, columns in itertools.product(self.rows, self.columns):
      under_way.append((rows, columns, self._start(read(slice(*rows[:2]), slice(*columns[:2])), mean)))
      if len(under_way) > _AHEAD:
        yield _cut(*under_way.popleft())
    while under_way:
      yield _cut(*under_way.popleft())

  def _mean(self, read: Read, measure: str) -> np.ndarray:
    """Mean brightness of each whole image, `[B]`, computed window by window."""
    total, count = np.zeros(1), 0
    for rows, columns in itertools.product(self.rows, self.columns):
      values = brightness(read(slice(*rows[2:]), slice(*columns[2:])), measure)
      total, count = total + np.sum(values, axis=(-3, -2, -1), dtype=np.float64), count + math.prod(values.shape[-3:])
    return total / count

  def _start(self, window: np.ndarray, mean: np.ndarray) -> jax.Array:
    size = window.shape[-3:-1]
    if size != self.shape:
      missing = [(0, full - length) for full, length in zip(self.shape, size, strict=True)]
      window = np.pad(window, [*[(0, 0)] * (window.ndim - 3), *missing, (0, 0)])
    mean = np.broadcast_to(mean, window.shape[:-3] or 1)
    return self.program(window, np.array(size, np.int32), mean.astype(np.float32))


def _cut(rows: Span, columns: Span, result: jax.Array) -> Part:
  """Waits for the result of a window, and cuts out the part that the window is for."""
  inner = [slice(span.first - span.start, span.last - span.start) for span in (rows, columns)]
  return Part(slice(*rows[2:]), slice(*columns[2:]), np.asarray(result)[..., *inner, :])


class Enhancer:
  """A folded model with its compiled programs.

  The first few sizes have a program each. Later sizes share programs of larger shapes. Images with more than `tile`
  squared pixels are computed in windows. The result does not depend on this, up to rounding.

  Call `plan` in the order of the images and from one thread at a time, because it chooses shapes by that order. The
  plans may run in several threads.

  Args:
    model: the model.
    dtype: number format of the computation; bfloat16 has 8 bits of precision and is faster on some devices.
    precision: that of the convolutions' float32 products on an accelerator.
    tile: side in pixels of the windows for large images.
    denoise: blend of the images before (0) and after noise removal (1), which one program computes; 0 and 1 are the
      variants "i" and "i+n", with their bits. None: the model's variant.
  """

  def __init__(
    self,
    model: Model,
    *,
    dtype: Dtype = "float32",
    precision: Precision = "high",
    tile: int = TILE,
    denoise: float | None = None,
  ):
    if denoise is not None:
      model = model.with_variant("i" if denoise == 0 else "i+n")
    model = dataclasses.replace(model, options=dataclasses.replace(model.options, precision=precision))
    folded = fold(model)
    self.shapes = Shapes()
    self._dtype, self._tile = jnp.dtype(dtype), tile
    illumination = model.options.illumination
    self.measure = illumination.brightness if illumination.adaptive else None
    self._halo = model.network.reach(model.options.variant)
    self._folded = jax.tree.map(lambda leaf: leaf.astype(dtype), folded)
    self._blend = () if denoise in (None, 0, 1) else (jnp.asarray(denoise, dtype),)
    self._programs = {}

  @property
  def compiled(self) -> int:
    """Number of programs compiled so far."""
    return len(self._programs)

  def plan(self, height: int, width: int, batch: int | None = None) -> Plan:
    """The plan for images of this size, one at a time or `batch` together. Compiles the program if it is new."""
    rows, columns = split_image(height, width, self._tile, self._halo)
    window = [spans[0].stop - spans[0].start for spans in (rows, columns)]
    shape, masked = self.shapes.choose(*window)
    key = shape, masked, batch
    if key not in self._programs:
      self._programs[key] = self._compile(*key)
    return Plan(rows, columns, shape, self._programs[key], self.measure)

  def __call__(self, image: np.ndarray) -> np.ndarray:
    """Enhances one image, float32 `[H, W, 3]` in [0, 1]; the result has the same shape and range."""
    result = np.empty(image.shape, np.float32)
    for part in self.plan(*image.shape[:2]).parts(lambda rows, columns: image[rows, columns]):
      result[part.rows, part.columns] = part.values
    return result

  def _compile(self, shape, masked, batch):
    def forward(folded, window, size, mean, *blend):
      valid = _inside(shape, size) if masked else None
      return enhance_folded(folded, window.astype(self._dtype), valid, mean, *blend).astype(jnp.float32)

    images = (*shape, 3) if batch is None else (batch, *shape, 3)
    about = [(images, jnp.float32), ((2,), jnp.int32), ((batch or 1,), jnp.float32)]
    about = [jax.ShapeDtypeStruct(*shape_and_dtype) for shape_and_dtype in about]
    lowered = jax.jit(forward, compiler_options=compiler_options()).lower(self._folded, *about, *self._blend)
    compiled = lowered.compile()
    return lambda *arguments: compiled(self._folded, *arguments, *self._blend)


def _inside(shape: tuple[int, int], size: jax.Array) -> jax.Array:
  """bool `[1, 1, *shape]`: true in the upper left part of this `size`."""
  rows, columns = (jnp.arange(full) < length for full, length in zip(shape, size, strict=True))
  return (rows[:, None] & columns[None, :])[None, None]
