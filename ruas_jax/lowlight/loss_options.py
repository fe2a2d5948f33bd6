"""Which losses, and their weights. Imports no jax, so that a command's help is there at once."""

import dataclasses
from typing import Literal

from ruas_jax.errors import require_at_least

TVKind = Literal["l1", "isotropic", "squared"]


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
