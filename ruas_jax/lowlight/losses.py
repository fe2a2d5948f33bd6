"""Losses without reference images, on images `[..., H, W, C]` in [0, 1]. Every loss is a scalar.

Norms and sums over pixels are means in this file, so that a weight has the same meaning at every crop size.
`charbonnier` is the width s of `sqrt(x^2 + s^2)`, which replaces `|x|`; 0 keeps `|x|`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ruas_jax.convolution.primitives import convolve
from ruas_jax.lowlight.kinks import absolute
from ruas_jax.lowlight.loss_options import TVKind


def fidelity(estimate: jax.Array, target: jax.Array, weight: jax.Array | None = None) -> jax.Array:
  """`1/2 ||estimate - target||^2`, mean over numbers (section 3.2.3), weighted by `weight` if it is given."""
  squares = jnp.square(estimate - target)
  return 0.5 * jnp.mean(squares if weight is None else weight * squares)


def differences(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Forward differences along height and width, each with the size of `x [..., H, W, C]`, zero beyond the border."""
  down = jnp.diff(x, axis=-3, append=x[..., -1:, :, :])
  right = jnp.diff(x, axis=-2, append=x[..., :, -1:, :])
  return down, right


def relative_total_variation(
  t: jax.Array, *, sigma: float = 3.0, epsilon: float = 1e-3, charbonnier: float = 0.0
) -> jax.Array:
  """Relative total variation RTV of Xu et al., "Structure extraction from texture via relative total variation", 2012.

      mean over p of  sum_{d in x, y}  D_d(p) / (L_d(p) + epsilon),
      D_d = G * |dt/dd|  (windowed total variation),   L_d = |G * dt/dd|  (windowed inherent variation)

  with G a Gaussian window of `sigma` pixels (cut off at 2.5 sigma). At texture D is much larger than L; at an edge D is
  close to L.
  """
  slopes = jnp.stack(differences(t), axis=-4)  # after the axis of images, so that a divided batch stays divided
  both = _gaussian_window(jnp.stack([absolute(slopes, charbonnier), slopes], axis=-4), sigma)
  variation, inherent = both[..., 0, :, :, :], both[..., 1, :, :, :]
  return 2 * jnp.mean(variation / (absolute(inherent, charbonnier) + epsilon))  # 2: the sum over two directions


def _gaussian_window(x: jax.Array, sigma: float) -> jax.Array:
  """Gaussian-weighted mean around every pixel of `x [..., H, W, C]`, zero outside; each channel separately."""
  half = max(1, math.ceil(2.5 * sigma))
  offsets = range(-half, half + 1)
  weights = jnp.array([math.exp(-0.5 * (offset / sigma) ** 2) for offset in offsets], x.dtype)
  kernel = (weights / jnp.sum(weights))[:, None, None]
  planes = jnp.moveaxis(x, -1, -3)
  blurred = planes.reshape(-1, 1, *planes.shape[-2:])
  for taps in (tuple((offset, 0) for offset in offsets), tuple((0, offset) for offset in offsets)):
    blurred = convolve(blurred, kernel, taps)
  return jnp.moveaxis(blurred.reshape(planes.shape), -3, -1)


def total_variation(x: jax.Array, *, kind: TVKind = "l1", charbonnier: float = 0.0) -> jax.Array:
  """Mean total variation: `|dx| + |dy|` (l1), `sqrt(dx^2 + dy^2)` (isotropic) or `dx^2 + dy^2` (squared)."""
  down, right = differences(x)
  if kind == "l1":
    return jnp.mean(absolute(down, charbonnier) + absolute(right, charbonnier))
  squares = jnp.square(down) + jnp.square(right)
  if kind == "squared":
    return jnp.mean(squares)
  # The derivative of the root is infinite where the image is flat. It is set to zero there, as that of |.| is.
  flat = squares == 0
  safe = jnp.where(flat & (charbonnier == 0), 1.0, squares + charbonnier**2)
  return jnp.mean(jnp.where(flat & (charbonnier == 0), 0.0, jnp.sqrt(safe)))


def exposure(result: jax.Array, images: jax.Array, *, target: float) -> jax.Array:
  """`(mean(result) - max(target, mean(image)))^2`, mean over the images `[B, H, W, C]`.

  The mean of a result should be `target`, or that of its image if the image is brighter.
  """
  result_means, image_means = (jnp.mean(batch, axis=(1, 2, 3)) for batch in (result, images))
  return jnp.mean(jnp.square(result_means - jnp.maximum(image_means, target)))


def colour_constancy(result: jax.Array) -> jax.Array:
  """Variance of the means of the three colours, mean over the images `[B, H, W, C]`: the grey world assumption
  (Buchsbaum 1980), used as a loss by Guo et al., "Zero-reference deep curve estimation", 2020."""
  colours = jnp.mean(result, axis=(1, 2))
  return jnp.mean(jnp.square(colours - jnp.mean(colours, axis=-1, keepdims=True)))


def log_fidelity(estimate: jax.Array, target: jax.Array, *, floor: float = 1e-3) -> jax.Array:
  """`1/2 ||log estimate - log target||^2`, mean over numbers. A ratio has the same weight in dark and bright parts.
  Numbers below `floor` count as `floor`."""
  return fidelity(*(jnp.log(jnp.maximum(x, floor)) for x in (estimate, target)))


def diagonal_halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Two images of half the size: each pixel is the mean of one of the diagonals of a 2x2 block of `x [..., H, W, C]`.
  An odd last row or column is ignored. If the noise of `x` is independent from pixel to pixel, so is theirs."""
  height, width = x.shape[-3] // 2 * 2, x.shape[-2] // 2 * 2
  corner = {(dy, dx): x[..., dy:height:2, dx:width:2, :] for dy in (0, 1) for dx in (0, 1)}
  return (corner[0, 0] + corner[1, 1]) / 2, (corner[0, 1] + corner[1, 0]) / 2


def noise_level(x: jax.Array, *, floor: float = 1 / 255) -> jax.Array:
  """Standard deviation `[B]` of the noise of each of `x [B, H, W, C]`, at least `floor`.

  The noise must be normal and independent from pixel to pixel. It is measured by the difference of the image's halves,
  because straight edges and slopes are equal in both.
  """
  first, second = diagonal_halves(x)
  deviation = math.sqrt(math.pi / 2) * jnp.mean(jnp.abs(first - second), axis=(1, 2, 3))
  return jnp.maximum(deviation, floor)


def pair_downsampling(
  denoise: Callable[[jax.Array, jax.Array], jax.Array],
  u: jax.Array,
  t: jax.Array,
  x: jax.Array,
  *,
  consistency: float,
  noise: jax.Array | None = None,
) -> jax.Array:
  """Noise2Noise on the two halves of an image (Mansour and Heckel, "Zero-shot Noise2Noise", 2023). Each denoised half
  should equal the other half, and also the same half of the denoised image.

      fidelity(f(u_1), u_2) + fidelity(f(u_2), u_1) + consistency (fidelity(f(u_1), x_1) + fidelity(f(u_2), x_2))

  Args:
    denoise: f, `(u, t) -> x` on `[B, H, W, C]` of any size.
    u, t: the image and its illumination.
    x: the denoised image, f(u, t).
    consistency: weight of the second part.
    noise: `[B]`, noise of each image; if given, the terms of an image are divided by it.
  """

  def of_each(first, second):
    """Both halves of each image in a row, so that a batch that is divided along its images stays divided."""
    return jnp.stack([first, second], axis=1).reshape(-1, *first.shape[1:])

  halves, guides = (of_each(*diagonal_halves(values)) for values in (u, t))
  denoised = denoise(halves, guides)
  others = of_each(*diagonal_halves(u)[::-1])
  same = of_each(*diagonal_halves(x))
  weight = None if noise is None else jnp.repeat(1 / noise, 2)[:, None, None, None]
  return 2 * (fidelity(denoised, others, weight) + consistency * fidelity(denoised, same, weight))


# The losses of the authors' released code.

_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (2, 1), (1, 2), (2, -1), (1, -2), (2, 2), (2, -2))


def released_smoothness(
  t: jax.Array, guide: jax.Array, *, sharpness: float = 0.005, charbonnier: float = 0.0
) -> jax.Array:
  """The released smoothness term, `2 sum_o mean(w_o) mean|D_o t|` over 12 neighbour offsets `o`.

  `w_o = exp(-sharpness * sum_c (D_o guide)^2)`; `guide` is RGB in [0, 1], so the weights are nearly one.
  """
  t, guide = jnp.moveaxis(t, -1, 0), jnp.moveaxis(guide, -1, 0)  # one plane per channel, contiguous pixels
  closeness = 2 * _mean_closeness(guide, sharpness)
  if not charbonnier:
    return _sum_of_variations(t, closeness)
  each = (jnp.mean(absolute(_difference(t, *offset), charbonnier)) for offset in _NEIGHBOURS)
  return jnp.asarray(sum(weight * variation for weight, variation in zip(closeness, each, strict=True)))


def _mean_closeness(guide: jax.Array, sharpness: float) -> jax.Array:
  """`mean exp(-sharpness * sum_c (D_o guide)^2)` for each `o` of `_NEIGHBOURS`, from `guide [C, ..., H, W]`.

  The colours are added one by one, and all offsets in one sum: on a CPU, XLA's sums over an axis are slow.
  """
  maps, counts = [], []
  for dy, dx in _NEIGHBOURS:
    near = jnp.exp(-sharpness * sum(jnp.square(_difference(plane, dy, dx)) for plane in guide))
    borders = ((0, 0),) * (near.ndim - 2) + ((0, dy), (0, abs(dx)))
    maps.append(jnp.pad(near, borders))
    counts.append(near.size)
  sums = jnp.sum(jnp.stack(maps).reshape(len(maps), -1), axis=1)
  return sums / np.array(counts, sums.dtype)


def _difference(x: jax.Array, dy: int, dx: int) -> jax.Array:
  """Differences of all pairs of pixels of `x [..., H, W]` that are `(dy, dx)` apart inside the image."""
  height, width = x.shape[-2:]
  left, right = max(0, -dx), max(0, dx)
  return x[..., dy:, right : width - left] - x[..., : height - dy, left : width - right]


def _sum_of_variations(t: jax.Array, weights: jax.Array) -> jax.Array:
  """`sum_o weights_o mean|D_o t|` over `_NEIGHBOURS` of `t [..., H, W]`, computed as `<g, t>` with its gradient g. g is
  constant almost everywhere, so one pass over the image replaces twelve, and a second derivative needs no pass."""
  reach = 2
  height, width = t.shape[-2:]
  pairs = [(height - dy) * (width - abs(dx)) * (t.size // (height * width)) for dy, dx in _NEIGHBOURS]
  scales = weights / np.array(pairs, t.dtype)
  fixed = lax.stop_gradient(t)
  borders = ((0, 0),) * (t.ndim - 2) + ((reach, reach),) * 2
  padded = jnp.pad(fixed, borders, constant_values=jnp.nan)  # comparisons with NaN are false
  gradient = jnp.zeros_like(t)
  for index, (dy, dx) in enumerate(_NEIGHBOURS):
    for down, right in ((dy, dx), (-dy, -dx)):  # a pixel is the first of one pair and the second of another
      there = padded[..., reach + down : reach + down + height, reach + right : reach + right + width]
      gradient = gradient + jnp.where(fixed > there, scales[index], jnp.where(fixed < there, -scales[index], 0))
  return jnp.sum(t * lax.stop_gradient(gradient))


def released_illumination_loss(t: jax.Array, images: jax.Array, *, charbonnier: float = 0.0) -> jax.Array:
  """`1/2 mean (t - y)^2 + smoothness(t; y)` of the released code."""
  return fidelity(t, images) + released_smoothness(t, images, charbonnier=charbonnier)


def released_total_variation(x: jax.Array) -> jax.Array:
  """`2 (mean (D_h x)^2 + mean (D_w x)^2)` of the released code; each mean is over the differences inside the image."""
  return 2 * (jnp.mean(jnp.square(jnp.diff(x, axis=-3))) + jnp.mean(jnp.square(jnp.diff(x, axis=-2))))


def released_denoising_loss(x: jax.Array, u: jax.Array) -> jax.Array:
  """`1e-7 mean (x - u)^2 + total variation` of the released code."""
  return 1e-7 * 2 * fidelity(x, u) + released_total_variation(x)
