"""The paper's objectives L_t and L_n as pure functions of (weights, shares, batch), for search and training."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ruas_jax.lowlight import losses
from ruas_jax.lowlight.illumination import IlluminationOutput, brightness
from ruas_jax.lowlight.loss_options import ExposureOptions, LossOptions, PairsOptions
from ruas_jax.lowlight.network import Network
from ruas_jax.lowlight.numbers import is_zero

IlluminationLoss = Callable[[IlluminationOutput, jax.Array], jax.Array]
DenoisingLoss = Callable[[jax.Array, jax.Array], jax.Array]


class Illuminated(NamedTuple):
  """Output of the illumination module: u_K and t_K, `[B, H, W, 3]`."""

  u: jax.Array
  t: jax.Array


class Objectives(NamedTuple):
  """Losses of the two modules.

  Attributes:
    illumination: `(weights_t, shares_t, images [B, H, W, 3]) -> (L_t, Illuminated)`.
    denoising: `(weights_n, shares_n, Illuminated) -> L_n`.
  """

  illumination: Callable[..., tuple[jax.Array, Illuminated]]
  denoising: Callable[..., jax.Array]


def make_objectives(
  network: Network,
  options: LossOptions = LossOptions(),
  *,
  illumination_loss: IlluminationLoss | None = None,
  denoising_loss: DenoisingLoss | None = None,
) -> Objectives:
  """Objectives of `network`. A custom `illumination_loss(output, images)` or `denoising_loss(x, u)` replaces the one of
  the options."""
  charbonnier = options.charbonnier or network.illumination.smoothing
  loss_t = illumination_loss or _illumination_loss(options, network.illumination.options.brightness, charbonnier)
  loss_n = _denoising_loss(options, charbonnier)

  def illumination(weights, shares, images):
    output = network.illumination(weights, shares, images)
    return loss_t(output, images), Illuminated(output.result, output.illumination)

  def denoising(weights, shares, illuminated):
    folded = network.denoising.fold(weights, shares)  # once, though a loss may denoise several images

    def denoise(u, t):
      return network.denoising.run(folded, u, t)

    x = denoise(*illuminated)
    return denoising_loss(x, illuminated.u) if denoising_loss else loss_n(denoise, illuminated, x)

  return Objectives(illumination, denoising)


def _illumination_loss(options: LossOptions, measure: str, charbonnier: float) -> IlluminationLoss:
  if options.illumination == "released":
    released = losses.released_illumination_loss
    return lambda output, images: released(output.illumination, images, charbonnier=charbonnier)

  def smoothness(output):
    if is_zero(options.eta_t):
      return 0.0
    return options.eta_t * losses.relative_total_variation(
      output.estimate, sigma=options.rtv_sigma, epsilon=options.rtv_epsilon, charbonnier=charbonnier
    )

  first = _paper_terms if options.illumination == "paper" else _exposure_terms(options.exposure, measure)
  return lambda output, images: first(output, images) + smoothness(output)


def _paper_terms(output: IlluminationOutput, images: jax.Array) -> jax.Array:
  del images
  return losses.fidelity(output.estimate, output.warm_start)


def _exposure_terms(options: ExposureOptions, measure: str) -> IlluminationLoss:
  def terms(output, images):
    result, given = (jnp.asarray(brightness(batch, measure)) for batch in (output.result, images))
    bright = options.weight * losses.exposure(result, given, target=options.target)
    colours = 0.0 if is_zero(options.colour_weight) else losses.colour_constancy(output.result)
    return bright + options.colour_weight * colours + losses.log_fidelity(output.illumination, output.warm_start)

  return terms


def _denoising_loss(options: LossOptions, charbonnier: float) -> Callable[..., jax.Array]:
  """`(denoise, illuminated, x) -> L_n`, where `x` is `denoise(*illuminated)`."""
  if options.denoising == "released":
    return lambda denoise, illuminated, x: losses.released_denoising_loss(x, illuminated.u)

  def variation(x):
    total = functools.partial(losses.total_variation, kind=options.tv, charbonnier=charbonnier)
    if options.chroma is None:
      return total(x)
    brightness = jnp.mean(x, axis=-1, keepdims=True)
    return total(brightness) + options.chroma * total(x - brightness)

  def paper(denoise, illuminated, x):
    del denoise
    return losses.fidelity(x, illuminated.u)

  first = paper if options.denoising == "paper" else _pairs_terms(options.pairs)

  def loss(denoise, illuminated, x):
    smoothness = options.eta_n * variation(x)
    return first(denoise, illuminated, x) + smoothness

  return loss


def _pairs_terms(options: PairsOptions) -> Callable[..., jax.Array]:
  def terms(denoise, illuminated, x):
    u, t = illuminated
    noise = losses.noise_level(u) if options.per_noise else None
    return losses.pair_downsampling(denoise, u, t, x, consistency=options.consistency, noise=noise)

  return terms
