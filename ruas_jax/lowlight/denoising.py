"""The noise removal module (NRM): N unrolled stages after the illumination module (section 3.1.2).

    x_0 = u_K,   x_{n+1} = u_K - head(C(stem(x_n)))     (eq. 3; `update="residual"`)

A 3x3 stem and a 3x3 head, shared by all stages, convert the three colours to the cell's channels and back.
`update="stacked"` is the form of the released code: features = C_N(...C_1(stem(u_K))), x = u_K - head(features). It
iterates over features, not over images.

With `guided=True` the stem also reads the illumination t_K, and the correction is multiplied by 1 - t_K: noise is
strong where the image was brightened, and parts that were not brightened do not change.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ruas_jax.convolution.parts import whole
from ruas_jax.convolution.primitives import reach, square_taps
from ruas_jax.lowlight import kinks
from ruas_jax.lowlight.cell import Affine, Cell, FoldedCell, Weights, fold_fusion
from ruas_jax.lowlight.mixed_op import init_kernels
from ruas_jax.lowlight.options import DenoisingOptions
from ruas_jax.lowlight.space import channel_mask, choices_of, mixture
from ruas_jax.lowlight.stages import fold_stages, init_stages, scan_stages

COLOURS = 3
_TAPS = square_taps(3)


class FoldedDenoising(NamedTuple):
  """The module's convolutions. `cells` has a leading axis of stages. `stages` are their mixing weights in the wide
  space."""

  stem: Affine
  cells: FoldedCell
  head: Affine
  stages: jax.Array | None


@dataclasses.dataclass(frozen=True)
class DenoisingModule:
  """The NRM over a cell, which is a supernet or a derived network."""

  options: DenoisingOptions
  cell: Cell
  slope: float = 0.05
  smoothing: float = 0.0
  wide: bool = False

  def init(self, key: jax.Array, dtype=jnp.float32) -> Weights:
    """Random weights `{"stem", "cells", "head"}`. A residual correction starts near zero."""
    ends_key, cell_key = jax.random.split(key)
    scale = 0.1 if self.options.update == "residual" else 1.0
    stages = 1 if self.options.share_weights else self.options.stages
    width = self.options.channels
    seen = 2 * COLOURS if self.options.guided else COLOURS
    ends = init_kernels(ends_key, {"stem": (3, 3, seen, width), "head": (3, 3, width, COLOURS)}, dtype=dtype)
    return {
      "stem": {"kernel": ends["stem"], "bias": jnp.zeros((width,), dtype)},
      "cells": init_stages(lambda stage_key: self.cell.init(stage_key, dtype=dtype), cell_key, stages),
      "head": {"kernel": scale * ends["head"], "bias": jnp.zeros((COLOURS,), dtype)},
    }

  def __call__(
    self, weights: Weights, shares: Any, images: jax.Array, illumination: jax.Array | None = None
  ) -> jax.Array:
    """Removes noise from `images` = u_K, `[B, H, W, 3]` in [0, 1]. The result has the same shape and is not clipped.

    Args:
      weights: weights from `init`.
      shares: mixing weights of the supernet, `[E, O]` or those of the wide space; a derived network ignores them.
      images: u_K.
      illumination: t_K, with the same shape; only a guided module reads it.
    """
    return self.run(self.fold(weights, shares), images, illumination)

  def fold(self, weights: Weights, shares: Any) -> FoldedDenoising:
    """The convolutions that `run` needs."""
    edges, stages, channels = choices_of(shares)
    mask = None if channels is None else channel_mask(channels, self.options.channels)
    cells = fold_stages(self.cell, weights["cells"], edges, mask)
    stem = fold_fusion(self.cell.layout, weights["stem"], _TAPS)
    head = fold_fusion(self.cell.layout, weights["head"], _TAPS, mask)
    return FoldedDenoising(stem, cells, head, stages)

  def run(
    self,
    folded: FoldedDenoising,
    images: jax.Array,
    illumination: jax.Array | None = None,
    valid: jax.Array | None = None,
  ) -> jax.Array:
    """The module with folded convolutions.

    `valid`, bool `[1 or B, 1, H, W]`, marks the pixels of the image; all others are outside it.
    """
    layout, (height, width) = self.cell.layout, images.shape[1:3]
    mask = layout.mask(valid, height, width)
    u = layout.enter(images)
    t = None
    if self.options.guided:
      assert illumination is not None
      t = layout.enter(illumination)

    activation = kinks.leaky_relu(self.slope, self.smoothing)

    def cell(folded_cell, features):
      return self.cell.apply(folded_cell, features, activation, mask)

    def features_of(x):
      seen = [whole(planes) for planes in (x, t) if planes is not None]
      return layout.convolve(seen, *folded.stem, _TAPS, mask)

    def correction(features):
      noise = layout.convolve([whole(features)], *folded.head, _TAPS, mask)
      return noise if t is None else (1 - t) * noise

    def residual_stage(x, folded_cell):
      return u - correction(cell(folded_cell, features_of(x)))

    def stacked_stage(features, folded_cell):
      return cell(folded_cell, features)

    def scan(stage, carry):
      def kept(carry, folded_cell):
        result = stage(carry, folded_cell)
        return result, None if folded.stages is None else result

      last, results = scan_stages(self.cell, kept, carry, folded.cells, self.options.stages)
      return last if folded.stages is None or results is None else mixture(folded.stages, results)

    if self.options.update == "residual":
      return layout.leave(scan(residual_stage, u), height, width)
    return layout.leave(u - correction(scan(stacked_stage, features_of(u))), height, width)

  def reach(self) -> int:
    """Distance in pixels to the farthest pixel of `images` that the result depends on."""
    stages, ends = self.options.stages, 2 * reach(_TAPS)
    return stages * self.cell.reach() + ends * (stages if self.options.update == "residual" else 1)
