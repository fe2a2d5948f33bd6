"""The losses and their weights. This file does not import jax, so that command help is fast."""

import dataclasses
from typing import Literal

from ruas_jax.errors import UserError, require_at_least

TVKind = Literal["l1", "isotropic", "squared"]


@dataclasses.dataclass(frozen=True)
class ExposureOptions:
  """The terms of L_t that only the recipe `exposure` has."""

  target: float = 0.45
  """Target mean of an enhanced image's brightness (`network.illumination.brightness`). A brighter image keeps its
  mean."""
  weight: float = 10.0
  """Weight of the exposure term."""
  colour_weight: float = 0.0
  """Weight of the colour constancy term: the means of the three colours should be equal."""

  def __post_init__(self):
    require_at_least(0, self, "loss.exposure", "weight", "colour_weight")
    require_at_least(0, self, "loss.exposure", "target", most=1)


@dataclasses.dataclass(frozen=True)
class PairsOptions:
  """The terms of L_n that only the recipe `pairs` has."""

  consistency: float = 0.3
  """Weight of the consistency term: a denoised half should equal the half of the denoised image."""
  per_noise: bool = False
  """Divide the Noise2Noise terms by the estimated noise of each image. Then the total variation has more weight in
  noisier images, and noisy images do not dominate the loss."""

  def __post_init__(self):
    require_at_least(0, self, "loss.pairs", "consistency")


@dataclasses.dataclass(frozen=True)
class LossOptions:
  """The losses and their weights. A recipe with further options has a group of its name.

  The Python defaults are the paper's (section 3.2.3). The command line starts from the values of --config.
  """

  illumination: Literal["paper", "released", "exposure"] = "paper"
  """L_t. paper: 1/2 ||t - t_hat_0||^2 + eta_t RTV(t). released: as in the authors' code. exposure:
  1/2 ||log t - log t_hat_0||^2 + eta_t RTV(t) + weight (mean u - target)^2. The result of exposure does not
  depend on when training stops."""
  exposure: ExposureOptions = ExposureOptions()
  eta_t: float = 0.01
  """Weight of the relative total variation of t."""
  rtv_sigma: float = 3.0
  """Standard deviation of the relative total variation's Gaussian window, in pixels."""
  rtv_epsilon: float = 1e-3
  """Added to the denominator of the relative total variation, which is zero where t is flat."""
  denoising: Literal["paper", "released", "pairs"] = "paper"
  """L_n. paper: 1/2 ||x - u_K||^2 + eta_n TV(x). released: as in the authors' code. pairs: the paper's, with
  Noise2Noise between two halves of the image in its first term."""
  pairs: PairsOptions = PairsOptions()
  eta_n: float = 0.03
  """Weight of the total variation of x."""
  tv: TVKind = "l1"
  """Form of the total variation of x."""
  chroma: float | None = None
  """Weight of the total variation of colour relative to that of brightness. None: the total variation of the three
  colour channels. Noise in colour is more visible than noise in brightness, and colour has less detail to lose."""
  charbonnier: float = 0.0
  """s in sqrt(x^2 + s^2), which replaces every |x| of the losses. 0: network.smoothing, so that one option rounds
  everything."""
  beta: float = 1.0
  """Weight of L_n in the validation loss L_t + beta L_n (eq. 5)."""

  def __post_init__(self):
    if not isinstance(self.exposure, ExposureOptions):  # it was a number in earlier versions
      raise UserError(f"loss.exposure = {self.exposure!r}: must be ExposureOptions; a target is `loss.exposure.target`")
    require_at_least(0, self, "loss", "eta_t", "eta_n", "charbonnier", "beta")
    if self.chroma is not None:
      require_at_least(0, self, "loss", "chroma")
    require_at_least(1e-12, self, "loss", "rtv_sigma", "rtv_epsilon")
