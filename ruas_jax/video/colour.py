"""Conversion between the planes of a video frame and RGB values.

    R = Y + 2 (1 - kr) Cr,   B = Y + 2 (1 - kb) Cb,   Y = kr R + kg G + kb B,   kr + kg + kb = 1

Y is in [0, 1] and Cb, Cr are in [-1/2, 1/2]. Of b bits, the limited range has Y in [16, 235] 2^(b-8) and Cb, Cr in
[16, 240] 2^(b-8); the full range has [0, 2^b - 1]. Where a plane of colour has fewer samples, they lie as H.264 has
them by default: on every second column, and between two rows. They are interpolated linearly.

Planes are uint8 or uint16 `[H, W]`, RGB values are float32 `[H, W, 3]` in [0, 1] (ITU-R BT.601, BT.709 and BT.2020).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Planes = tuple[np.ndarray, ...]

# FFmpeg's number of the matrix -> (kr, kb). 2 is "unspecified".
_MATRICES = {
  1: (0.2126, 0.0722),
  4: (0.30, 0.11),
  5: (0.299, 0.114),
  6: (0.299, 0.114),
  7: (0.212, 0.087),
  9: (0.2627, 0.0593),
}
_RGB, _UNSPECIFIED = 0, 2
_LARGE = 720  # rows from which on players take BT.709 if nothing is specified


class Layout(NamedTuple):
  """How planes hold colours.

  Attributes:
    bits: bits per sample.
    across, down: columns and rows of Y for each sample of Cb and Cr; 0 if there is only Y.
    full: whether the samples have the full range.
    weights: (kr, kb); None if the planes are G, B and R.
  """

  bits: int
  across: int
  down: int
  full: bool
  weights: tuple[float, float] | None

  @property
  def name(self) -> str:
    """FFmpeg's name of the planes' format."""
    deep = f"{self.bits}le" if self.bits > 8 else ""
    if self.weights is None:
      return f"gbrp{deep}"
    if not self.across:
      return f"gray{deep}"
    return f"yuv{ {(2, 2): '420', (2, 1): '422', (1, 1): '444'}[self.across, self.down] }p{deep}"


def weights_of(matrix: int, height: int) -> tuple[float, float] | None:
  """(kr, kb) of a matrix by FFmpeg's number; None for RGB. If it is not specified, that which players take.

  Raises:
    KeyError: it is no matrix of this kind.
  """
  if matrix == _RGB:
    return None
  return _MATRICES[(1 if height >= _LARGE else 6) if matrix == _UNSPECIFIED else matrix]


@functools.partial(jax.jit, static_argnums=1)
def to_rgb(planes: Planes, layout: Layout) -> jax.Array:
  """RGB values of a frame, clipped to [0, 1]."""
  first, *others = (jnp.asarray(plane, jnp.float32) for plane in planes)
  if layout.weights is None:
    green, blue, red = (plane / (2**layout.bits - 1) for plane in (first, *others))
    return jnp.stack([red, green, blue], axis=-1)
  (black, span), (middle, spread) = _scales(layout)
  y = (first - black) / span
  if not others:
    return jnp.clip(jnp.stack([y, y, y], axis=-1), 0, 1)
  blue_difference, red_difference = (_enlarge((plane - middle) / spread, y.shape, layout) for plane in others)
  kr, kb = layout.weights
  red, blue = y + 2 * (1 - kr) * red_difference, y + 2 * (1 - kb) * blue_difference
  green = (y - kr * red - kb * blue) / (1 - kr - kb)
  return jnp.clip(jnp.stack([red, green, blue], axis=-1), 0, 1)


@functools.partial(jax.jit, static_argnums=1)
def from_rgb(values: jax.Array | np.ndarray, layout: Layout) -> tuple[jax.Array, ...]:
  """The planes of Y, Cb and Cr of RGB values, rounded to the nearest level. The layout may not be one of G, B and R."""
  assert layout.weights is not None
  kr, kb = layout.weights
  red, green, blue = jnp.moveaxis(jnp.clip(jnp.asarray(values), 0, 1), -1, 0)
  y = kr * red + (1 - kr - kb) * green + kb * blue
  (black, span), (middle, spread) = _scales(layout)
  kind = jnp.uint16 if layout.bits > 8 else jnp.uint8
  rounded = lambda plane: jnp.clip(jnp.rint(plane), 0, 2**layout.bits - 1).astype(kind)
  planes = [rounded(y * span + black)]
  if layout.across:
    for colour, weight in ((blue, kb), (red, kr)):
      difference = _reduce((colour - y) / (2 * (1 - weight)), layout)
      planes.append(rounded(difference * spread + middle))
  return tuple(planes)


def _scales(layout: Layout) -> tuple[tuple[float, float], tuple[float, float]]:
  """(offset, factor) of Y, and of Cb and Cr."""
  step = 2 ** (layout.bits - 8)
  if layout.full:
    return (0, 256 * step - 1), (128 * step, 256 * step - 1)
  return (16 * step, 219 * step), (128 * step, 224 * step)


def _enlarge(plane: jax.Array, shape: tuple[int, ...], layout: Layout) -> jax.Array:
  """A plane of colour with the shape of Y."""
  if layout.down == 2:
    above, below = jnp.concatenate([plane[:1], plane[:-1]]), jnp.concatenate([plane[1:], plane[-1:]])
    rows = jnp.stack([0.75 * plane + 0.25 * above, 0.75 * plane + 0.25 * below], axis=1)
    plane = rows.reshape(-1, plane.shape[1])
  if layout.across == 2:
    right = jnp.concatenate([plane[:, 1:], plane[:, -1:]], axis=1)
    plane = jnp.stack([plane, (plane + right) / 2], axis=2).reshape(plane.shape[0], -1)
  return plane[: shape[0], : shape[1]]


def _reduce(plane: jax.Array, layout: Layout) -> jax.Array:
  """A plane with the shape of Y, whose sides are even where they are halved, as a plane of colour."""
  if layout.across == 2:
    left = jnp.concatenate([plane[:, :1], plane[:, 1:-1:2]], axis=1)
    plane = 0.25 * left + 0.5 * plane[:, ::2] + 0.25 * plane[:, 1::2]
  if layout.down == 2:
    plane = (plane[::2] + plane[1::2]) / 2
  return plane
