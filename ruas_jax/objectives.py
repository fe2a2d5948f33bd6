"""The paper's objectives L_t and L_n as pure functions of (weights, alpha, batch); search and training share them."""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax

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

  illumination: Literal["paper", "released"] = "paper"
  """paper: 1/2 ||t - t_hat_0||^2 + eta_t RTV(t); released: the terms of the authors' code."""
  eta_t: float = 0.01
  """Weight of the relative total variation of t."""
  rtv_sigma: float = 3.0
  """Window of the relative total variation in pixels."""
  rtv_epsilon: float = 1e-3
  """Keeps its ratio finite where t is flat."""
  denoising: Literal["paper", "released"] = "paper"
  """paper: 1/2 ||x - u_K||^2 + eta_n TV(x); released: the terms of the authors' code."""
  eta_n: float = 0.03
  """Weight of the total variation of x."""
  tv: TVKind = "l1"
  """Which total variation."""
  charbonnier: float = 0.0
  """Width of sqrt(x^2 + s^2) in place of every |x|; 0 takes the network's smoothing, so one switch rounds
  everything."""
  beta: float = 1.0
  """Weight of L_n in the validation loss L_t + beta L_n (eq. 5)."""

  def __post_init__(self):
    require_at_least(0, self, "loss", "eta_t", "eta_n", "charbonnier", "beta")
    require_at_least(1e-12, self, "loss", "rtv_sigma", "rtv_epsilon")


class Objectives(NamedTuple):
  """Losses of the two modules.

  Attributes:
    illumination: `(weights_t, alpha_t, images [B, H, W, 3]) -> (L_t, u_K [B, H, W, 3])`.
    denoising: `(weights_n, alpha_n, u_K) -> L_n`.
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
  loss_n = denoising_loss or _denoising_loss(options, charbonnier)

  def illumination(weights, alpha, images):
    output = network.illumination(weights, alpha, images)
    return loss_t(output, images), output.result

  def denoising(weights, alpha, u):
    return loss_n(network.denoising(weights, alpha, u), u)

  return Objectives(illumination, denoising)


def _illumination_loss(options: LossOptions, charbonnier: float) -> IlluminationLoss:
  if options.illumination == "released":
    released = losses.released_illumination_loss
    return lambda output, images: released(output.illumination, images, charbonnier=charbonnier)

  def paper(output, images):
    del images
    t = output.estimate
    smoothness = losses.relative_total_variation(
      t, sigma=options.rtv_sigma, epsilon=options.rtv_epsilon, charbonnier=charbonnier
    )
    return losses.fidelity(t, output.warm_start) + options.eta_t * smoothness

  return paper


def _denoising_loss(options: LossOptions, charbonnier: float) -> DenoisingLoss:
  if options.denoising == "released":
    return losses.released_denoising_loss
  return lambda x, u: (
    losses.fidelity(x, u) + options.eta_n * losses.total_variation(x, kind=options.tv, charbonnier=charbonnier)
  )
