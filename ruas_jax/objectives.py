"""The paper's objectives L_t and L_n as pure functions of (weights, alpha, batch); search and training share them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from ruas_jax import losses
from ruas_jax.errors import require_at_least
from ruas_jax.losses import TVKind
from ruas_jax.retinex.illumination import IlluminationOutput
from ruas_jax.retinex.network import Network

IlluminationLoss = Callable[[IlluminationOutput, jax.Array], jax.Array]
DenoisingLoss = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class LossOptions:
  """Which losses, and their weights; the defaults are the paper's (section 3.2.3)."""

  illumination: Literal["paper", "released", "exposure"] = "paper"
  """paper: 1/2 ||t - t_hat_0||^2 + eta_t RTV(t); released: the terms of the authors' code; exposure:
  1/2 ||log t - log t_hat_0||^2 + eta_t RTV(t) + exposure_weight (mean u - target)^2, which has a minimum that is no
  matter of when training stops."""
  exposure: float = 0.45
  """The mean that an image should come out with, if it is not brighter already."""
  exposure_weight: float = 10.0
  """How much that counts."""
  colour_weight: float = 0.0
  """Of exposure: how much the colours' means are to be alike (colour constancy)."""
  eta_t: float = 0.01
  """Weight of the relative total variation of t."""
  rtv_sigma: float = 3.0
  """Window of the relative total variation in pixels."""
  rtv_epsilon: float = 1e-3
  """Keeps its ratio finite where t is flat."""
  denoising: Literal["paper", "released", "pairs"] = "paper"
  """paper: 1/2 ||x - u_K||^2 + eta_n TV(x); released: the terms of the authors' code; pairs: Noise2Noise between two
  halves of the image, in place of the first term of the paper's."""
  consistency: float = 0.3
  """Of pairs: how much a denoised half is to be the half of the denoised image."""
  per_noise: bool = False
  """Of pairs: divide its terms by the noise of each image's u_K, as its halves show it. So the total variation counts
  for more the noisier an image is, and noisy images do not outweigh the others."""
  eta_n: float = 0.03
  """Weight of the total variation of x."""
  tv: TVKind = "l1"
  """Which total variation."""
  chroma: float | None = None
  """Take the total variation of brightness and, this many times, that of colour apart from brightness, in place of that
  of the three colours: noise of colour is uglier than noise of brightness, and colour has less detail to lose."""
  charbonnier: float = 0.0
  """Width of sqrt(x^2 + s^2) in place of every |x|; 0 takes the network's smoothing, so one switch rounds
  everything."""
  beta: float = 1.0
  """Weight of L_n in the validation loss L_t + beta L_n (eq. 5)."""

  def __post_init__(self):
    require_at_least(0, self, "loss", "eta_t", "eta_n", "charbonnier", "beta", "consistency")
    require_at_least(0, self, "loss", "exposure_weight", "colour_weight")
    require_at_least(0, self, "loss", "exposure", most=1)
    if self.chroma is not None:
      require_at_least(0, self, "loss", "chroma")
    require_at_least(1e-12, self, "loss", "rtv_sigma", "rtv_epsilon")


class Lit(NamedTuple):
  """What the illumination module hands on: u_K and t_K, `[B, H, W, 3]`."""

  u: jax.Array
  t: jax.Array


class Objectives(NamedTuple):
  """Losses of the two modules.

  Attributes:
    illumination: `(weights_t, alpha_t, images [B, H, W, 3]) -> (L_t, Lit)`.
    denoising: `(weights_n, alpha_n, Lit) -> L_n`.
  """

  illumination: Callable[..., tuple[jax.Array, jax.Array]]
  denoising: Callable[..., jax.Array]


def make_objectives(
  network: Network,
  options: LossOptions = LossOptions(),
  *,
  illumination_loss: IlluminationLoss | None = None,
  denoising_loss: DenoisingLoss | None = None,
) -> Objectives:
  """Objectives of `network`; an own `illumination_loss(output, images)` or `denoising_loss(x, u)` replaces the
  option's."""
  charbonnier = options.charbonnier or network.illumination.smoothing
  loss_t = illumination_loss or _illumination_loss(options, charbonnier)
  loss_n = _denoising_loss(options, charbonnier)

  def illumination(weights, alpha, images):
    output = network.illumination(weights, alpha, images)
    return loss_t(output, images), Lit(output.result, output.illumination)

  def denoising(weights, alpha, lit):
    def denoise(u, t):
      return network.denoising(weights, alpha, u, t)

    x = denoise(*lit)
    return denoising_loss(x, lit.u) if denoising_loss else loss_n(denoise, lit, x)

  return Objectives(illumination, denoising)


def _illumination_loss(options: LossOptions, charbonnier: float) -> IlluminationLoss:
  if options.illumination == "released":
    released = losses.released_illumination_loss
    return lambda output, images: released(output.illumination, images, charbonnier=charbonnier)

  def smoothness(output):
    if isinstance(options.eta_t, int | float) and options.eta_t == 0:  # a traced zero costs the work
      return 0.0
    return options.eta_t * losses.relative_total_variation(
      output.estimate, sigma=options.rtv_sigma, epsilon=options.rtv_epsilon, charbonnier=charbonnier
    )

  def paper(output, images):
    del images
    return losses.fidelity(output.estimate, output.warm_start) + smoothness(output)

  def exposed(output, images):
    bright = options.exposure_weight * losses.exposure(output.result, images, target=options.exposure)
    even = options.colour_weight * losses.colour_constancy(output.result) if options.colour_weight else 0.0
    return bright + even + losses.log_fidelity(output.illumination, output.warm_start) + smoothness(output)

  return paper if options.illumination == "paper" else exposed


def _denoising_loss(options: LossOptions, charbonnier: float) -> Callable[..., jax.Array]:
  """`(denoise, lit, x) -> L_n`, where `x` is `denoise(*lit)`."""
  if options.denoising == "released":
    return lambda denoise, lit, x: losses.released_denoising_loss(x, lit.u)

  def variation(x):
    total = functools.partial(losses.total_variation, kind=options.tv, charbonnier=charbonnier)
    if options.chroma is None:
      return total(x)
    brightness = jnp.mean(x, axis=-1, keepdims=True)
    return total(brightness) + options.chroma * total(x - brightness)

  def loss(denoise, lit, x):
    smoothness = options.eta_n * variation(x)
    if options.denoising == "paper":
      return losses.fidelity(x, lit.u) + smoothness
    noise = losses.noise_level(lit.u) if options.per_noise else None
    pairs = losses.pair_downsampling(denoise, *lit, x, consistency=options.consistency, noise=noise)
    return pairs + smoothness

  return loss
