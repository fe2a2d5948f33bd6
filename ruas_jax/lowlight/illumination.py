"""The illumination estimation module (IEM): K unrolled stages of Retinex's illumination model (section 3.1.1).

    t_hat_0 = S(y),   t_hat_k = S(u_k) - gamma (u_k - y)    (eq. 1; S: maximum over a region of each pixel)
    t_{k+1} = t_hat_k - C(t_k)                              (eq. 2; `update="residual"`)
    u_{k+1} = y / t_{k+1}^p                                 (p = 1: the paper)

starting from t_0 = t_hat_0. `update="direct"` is the released code's `t_{k+1} = sigmoid(C(t_hat_k))`. In both forms, t
is clipped to [floor, 1] and u to [0, 1].

`adaptive=True` blends the illumination with one level for the whole image, computed from the image's mean m:

    epsilon = clip(exp(a logit(m) + b), floor, 1),   t_hat_k -> epsilon + (1 - epsilon) t_hat_k,   C -> (1 - epsilon) C

m is the mean of all pixels' brightness (`brightness`). With a = 1 and b = -logit(v), the result of a constant grey
image has the mean v, or is unchanged if the image is brighter (epsilon = 1). a and b are learned. So u is a curve of y
instead of a gain. This is the rational curve; `curves` has another, with which v is reached by other a and b.

With `light="linear"`, all of this holds of linear light: y and m are decoded by the curve of sRGB, and what the module
returns is encoded again.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ruas_jax.convolution.layout import ImageLayout
from ruas_jax.lowlight import kinks
from ruas_jax.lowlight.cell import Cell, FoldedCell, Weights
from ruas_jax.lowlight.curves import CURVES
from ruas_jax.lowlight.options import IlluminationOptions
from ruas_jax.lowlight.space import choices_of, mixture
from ruas_jax.lowlight.stages import fold_stages, init_stages, scan_stages
from ruas_jax.srgb import from_light, to_light


class IlluminationOutput(NamedTuple):
  """Results of all stages, float `[K, B, H, W, 3]`, and four single images `[B, H, W, 3]`, all in the encoding of the
  input.

  Attributes:
    t: illumination, in [floor, 1].
    u: brightened image, in [0, 1].
    estimate: the last t before clipping. A loss on it can raise an illumination that has reached the floor, where the
      clipped t has no derivative.
    warm_start: t_hat_0.
    result: u_K again, for programs that do not keep the images of the other stages. In the wide space it is the mixture
      of all stages, as are `illumination` and `estimate`.
    illumination: t_K again, for the same reason.
  """

  t: jax.Array
  u: jax.Array
  estimate: jax.Array
  warm_start: jax.Array
  result: jax.Array
  illumination: jax.Array


class Level(NamedTuple):
  """a and b of the adaptive level, each `[]`."""

  slope: jax.Array
  offset: jax.Array


class FoldedIllumination(NamedTuple):
  """The module's convolutions with a leading axis of stages, the level of an adaptive module, and the mixing weights of
  the stages in the wide space."""

  cells: FoldedCell
  level: Level | None
  stages: jax.Array | None


_FIRST_MEAN = 0.45  # mean of a constant image's result before training
MEAN_RANGE = (1e-4, 1 - 1e-4)  # of an image's mean: keeps the logit of a black or a white image finite


@dataclasses.dataclass(frozen=True)
class IlluminationModule:
  """The IEM over a cell, which is a supernet or a derived network."""

  options: IlluminationOptions
  cell: Cell
  slope: float = 0.05
  smoothing: float = 0.0
  wide: bool = False

  def init(self, key: jax.Array, dtype=jnp.float32) -> Weights:
    """Random cell weights, stacked over stages. A residual stage starts near the identity, to keep t above the
    floor."""
    scale = 0.1 if self.options.update == "residual" else 1.0
    stages = 1 if self.options.share_weights else self.options.stages
    weights = init_stages(lambda stage_key: self.cell.init(stage_key, output_scale=scale, dtype=dtype), key, stages)
    if not self.options.adaptive:
      return weights
    first = float(to_light(np.array(_FIRST_MEAN))) if self._linear else _FIRST_MEAN
    offset = -math.log(first / (1 - first))
    return weights | {"level": {"slope": jnp.ones((), dtype), "offset": jnp.array(offset, dtype)}}

  def __call__(self, weights: Weights, shares: Any, images: jax.Array) -> IlluminationOutput:
    """Estimates the illumination of `images [B, H, W, 3]` in [0, 1].

    Args:
      weights: weights from `init`.
      shares: mixing weights of the supernet, `[E, O]` or those of the wide space; a derived network ignores them.
    """
    return self.run(self.fold(weights, shares), images)

  def fold(self, weights: Weights, shares: Any) -> FoldedIllumination:
    """The convolutions that `run` needs."""
    cells = {name: leaf for name, leaf in weights.items() if name != "level"}
    level = Level(**weights["level"]) if self.options.adaptive else None
    chosen = choices_of(shares)
    return FoldedIllumination(fold_stages(self.cell, cells, chosen.edges), level, chosen.stages)

  def run(
    self,
    folded: FoldedIllumination,
    images: jax.Array,
    valid: jax.Array | None = None,
    mean: jax.Array | None = None,
  ) -> IlluminationOutput:
    """The module with folded convolutions.

    `valid`, bool `[1 or B, 1, H, W]`, marks the pixels of the image; all others are outside it. `mean`, `[B]`, is the
    mean brightness of each whole image, if `images` are windows of them; None computes it from `images`. Only an
    adaptive module uses it.
    """
    layout, (height, width) = self.cell.layout, images.shape[1:3]
    y = layout.enter(to_light(images) if self._linear else images)
    mask = layout.mask(valid, height, width)
    epsilon = self._level(folded.level, images, valid, mean) if folded.level else None

    def warm_start(u):
      warm = self._warm_start(u, y, mask)
      return warm if epsilon is None else CURVES[self.options.curve](warm, epsilon)

    first = warm_start(y)
    if self._linear:  # or each stage would compute the curves again
      y, first = lax.optimization_barrier((y, first))

    def stage(carry, folded_cell):
      t, u, _ = carry
      warm = warm_start(u) if self.options.warm_start == "updated" else first
      estimate = self._estimate(folded_cell, t, warm, mask, epsilon)
      t = kinks.clip(estimate, self.options.floor, 1.0, self.smoothing)
      gain = t if self.options.exponent == 1 else t**self.options.exponent
      u = kinks.clip(y / gain, 0.0, 1.0, self.smoothing)
      return (t, u, estimate), (t, u, None if folded.stages is None else estimate)

    # With u = y the rectification is zero and eq. 1's second line equals its first, so one stage function is enough.
    start, stages = (first, y, first), self.options.stages
    (last, result, estimate), (t, u, estimates) = scan_stages(self.cell, stage, start, folded.cells, stages)
    if folded.stages is not None and estimates is not None:
      last, result, estimate = (mixture(folded.stages, of_stages) for of_stages in (t, u, estimates))
    results = (t, u, estimate, first, result, last)
    return IlluminationOutput(
      *(layout.leave(from_light(planes) if self._linear else planes, height, width) for planes in results)
    )

  @property
  def _linear(self) -> bool:
    return self.options.light == "linear"

  def reach(self) -> int:
    """Distance in pixels to the farthest pixel of `images` that u_K depends on."""
    options, cell = self.options, self.cell.reach()
    region = options.region // 2 if options.window == "centred" else options.region - 1
    t, u = region, 0
    for _ in range(options.stages):
      warm = region + (u if options.warm_start == "updated" else 0)
      t = max(warm, cell + t) if options.update == "residual" else cell + warm
      u = t
    return u

  def _level(self, level: Level, images, valid, mean):
    """The level epsilon, `[B, 1, 1, 1]`."""
    if mean is None:
      y = jnp.moveaxis(brightness(images, self.options.brightness), -1, 1)
      count = y[0].size if valid is None else y.shape[1] * jnp.sum(valid, axis=(1, 2, 3))
      mean = jnp.sum(ImageLayout().inside(y, valid), axis=(1, 2, 3)) / count
    mean = jnp.clip(mean, *MEAN_RANGE)
    mean = to_light(mean) if self._linear else mean
    epsilon = jnp.exp(level.slope * (jnp.log(mean) - jnp.log1p(-mean)) + level.offset)
    return kinks.clip(epsilon, self.options.floor, 1.0, self.smoothing)[:, None, None, None].astype(images.dtype)

  def _estimate(self, folded_cell, t, warm, mask, epsilon):
    activation = kinks.leaky_relu(self.slope, self.smoothing)
    if self.options.update == "residual":
      correction = self.cell.apply(folded_cell, t, activation, mask)
      t = warm - (correction if epsilon is None else (1 - epsilon) * correction)
    else:
      t = jax.nn.sigmoid(self.cell.apply(folded_cell, warm, activation, mask))
    if self.options.one_illumination:
      t = self._for_all_colours(self.cell.layout.channels(t).mean(axis=1), t.shape)
    return t

  def _warm_start(self, u, y, mask):
    """Eq. 1 for planes."""
    region_maximum = local_maximum(
      u, self.options.region, self.options.window, self.smoothing, mask, layout=self.cell.layout
    )
    if self.options.one_illumination:
      channels = self.cell.layout.channels(region_maximum)
      over_colours = channels[:, 0]
      for channel in range(1, channels.shape[1]):
        over_colours = kinks.maximum(over_colours, channels[:, channel], self.smoothing)
      region_maximum = self._for_all_colours(over_colours, region_maximum.shape)
    return region_maximum - self.options.gamma * (u - y)

  def _for_all_colours(self, channel, shape):
    """The planes of one channel `[B, side**2, rows, columns]` repeated for each colour."""
    if self.cell.layout.side == 1:  # XLA merges a plain broadcast into the next operation
      return jnp.broadcast_to(channel, shape)
    return jnp.broadcast_to(channel[:, None], (shape[0], shape[1] // channel.shape[1], *channel.shape[1:])).reshape(
      shape
    )


def brightness(images: jax.Array | np.ndarray, measure: str) -> jax.Array | np.ndarray:
  """Numbers whose mean over the last axis is the brightness of each pixel of `images [..., C]`. With the measure
  "mean" these are the colours, with "brightest" the brightest one, `[..., 1]`."""
  return images if measure == "mean" else images.max(axis=-1, keepdims=True)


def local_maximum(
  x: jax.Array,
  size: int,
  window: str,
  smoothing: float = 0.0,
  mask: jax.Array | None = None,
  *,
  layout: ImageLayout = ImageLayout(),
) -> jax.Array:
  """Maximum over a `size x size` region of every pixel of the planes `x`; zero outside the image (`inside`)."""
  before = (size - 1) // 2 if window == "centred" else 0
  for axis in (-1, -2):
    # Zero outside for each axis again: a rounded maximum of zeros is not zero.
    near = layout.neighbours(layout.inside(x, mask), axis, range(-before, size - before))
    x = near[0]
    for other in near[1:]:
      x = kinks.maximum(x, other, smoothing)
  return x
