"""The options of the forward pass, except the architecture. This file does not import jax, so that command help is
fast."""

import dataclasses
from typing import Literal

from ruas_jax.errors import UserError, require_at_least

Variant = Literal["i", "i+n"]
Precision = Literal["exact", "high", "fast"]


@dataclasses.dataclass(frozen=True)
class IlluminationOptions:
  """The unrolled illumination module (IEM)."""

  stages: int = 3
  """K, the number of unrolled stages."""
  update: Literal["residual", "direct"] = "residual"
  """residual: eq. 2. direct: t = sigmoid(cell(warm start)), as in the released code."""
  region: int = 3
  """Side of the warm start's region Omega in pixels; 1 is the pixel itself."""
  window: Literal["centred", "forward"] = "centred"
  """Position of Omega: around its pixel, or to its lower right (the released code's 2x2)."""
  one_illumination: bool = False
  """Also take the maximum over the colour channels, so that all three share one illumination."""
  warm_start: Literal["updated", "fixed"] = "updated"
  """updated: eq. 1 at every stage. fixed: t_hat_0 at every stage (Fig. 6b)."""
  gamma: float = 0.5
  """Weight of the residual rectification in eq. 1; 0 disables it (Fig. 6c)."""
  share_weights: bool = False
  """All stages use the same cell weights."""
  exponent: float = 1.0
  """p in u = y / t^p, after LIME (Guo et al. 2017). Below 1, dark parts stay darker than bright parts."""
  floor: float = 0.001
  """Smallest illumination."""
  adaptive: bool = False
  """Blend the illumination with a level computed from the image's mean, so that a bright image is not changed."""
  curve: Literal["rational", "exponential"] = "rational"
  """How an adaptive module brightens: u is this curve of y, before the cell corrects it. exponential keeps more
  contrast in dark parts."""
  light: Literal["encoded", "linear"] = "encoded"
  """What y = t u holds of. encoded: the values of the image, as in the paper. linear: the light that they stand for, by
  the curve of sRGB; a longer exposure multiplies it."""
  brightness: Literal["mean", "brightest"] = "mean"
  """Brightness of a pixel, of which the level and the exposure loss take the image's mean: the mean of its colours, or
  the brightest of them, which exposes coloured light less."""

  def __post_init__(self):
    if self.adaptive and self.update != "residual":
      raise UserError(
        f"`network.illumination.adaptive` needs `network.illumination.update` = 'residual', not {self.update!r}"
      )
    if self.curve != "rational" and not self.adaptive:
      raise UserError(f"`network.illumination.curve` = {self.curve!r} needs `network.illumination.adaptive`")
    require_at_least(1, self, "network.illumination", "stages", "region")
    require_at_least(0, self, "network.illumination", "gamma", "exponent")
    require_at_least(1e-6, self, "network.illumination", "floor", most=0.5)


@dataclasses.dataclass(frozen=True)
class DenoisingOptions:
  """The unrolled noise removal module (NRM)."""

  stages: int = 3
  """N, the number of unrolled stages."""
  channels: int = 6
  """Number of channels of the cell (section 4.1)."""
  update: Literal["residual", "stacked"] = "residual"
  """residual: eq. 3. stacked: all cells in a row, then one correction, as in the released code."""
  share_weights: bool = False
  """All stages use the same cell weights."""
  guided: bool = False
  """Also give the illumination to the module: noise is strongest where the image was brightened most."""

  def __post_init__(self):
    require_at_least(1, self, "network.denoising", "stages", "channels")


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
  """The forward pass of the network, except the architecture.

  The Python defaults are the paper's. The command line starts from the values of --config.
  """

  illumination: IlluminationOptions = IlluminationOptions()
  denoising: DenoisingOptions = DenoisingOptions()
  space: Literal["ruas", "wide"] = "ruas"
  """What a search chooses. ruas: the operations of the edges. wide: also the stages of both modules and the channels of
  the noise removal, each up to its option; the genotype then holds them."""
  variant: Variant = "i+n"
  """Output of the network: i is u_K of the illumination module, i+n is x_N of the noise removal module."""
  slope: float = 0.05
  """Negative slope of the leaky ReLU."""
  smoothing: float = 0.0
  """Width of the rounded corners of leaky ReLU, max and clip; 0: sharp corners. For studies of gradients only: it
  changes the problem, since rounded maxima are larger than the true ones."""
  layout: Literal["auto", "pixels", "blocks"] = "auto"
  """How images lie in memory. blocks: 4x4 pixels are channels, which suits matrix units. auto: blocks on a TPU."""
  precision: Precision = "exact"
  """Products of the convolutions on an accelerator. exact: float32. high: three bfloat16 passes on a TPU, float32
  on a GPU. fast: one bfloat16 pass on a TPU, TF32 on a GPU."""

  def __post_init__(self):
    require_at_least(0, self, "network", "smoothing")
    require_at_least(0, self, "network", "slope", most=1)


RELEASED = NetworkOptions(
  illumination=IlluminationOptions(update="direct", region=2, window="forward"),
  denoising=DenoisingOptions(update="stacked"),
)
"""The forward pass of the authors' released code."""
