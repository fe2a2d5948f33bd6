"""Everything that fixes the forward pass but the architecture and the weights. Imports no jax, so that a command's help
is there at once."""

import dataclasses
from typing import Literal

from ruas_jax.errors import UserError, require_at_least

Variant = Literal["i", "i+n"]


@dataclasses.dataclass(frozen=True)
class IlluminationOptions:
  """How the illumination is unrolled; the defaults are the paper's form."""

  stages: int = 3
  """K, the number of unrolled stages."""
  update: Literal["residual", "direct"] = "residual"
  """residual: eq. 2; direct: sigmoid of the cell of the warm start, as in the released code."""
  region: int = 3
  """Side of the warm start's region Omega in pixels; 1 takes the pixel itself."""
  window: Literal["centred", "forward"] = "centred"
  """Where Omega lies: around its pixel, or from it to the lower right (the released code's 2x2)."""
  one_illumination: bool = False
  """Take the maximum over the colour channels too, so that one illumination serves all three."""
  warm_start: Literal["updated", "fixed"] = "updated"
  """updated: eq. 1 at every stage; fixed: t_hat_0 throughout (Fig. 6b)."""
  gamma: float = 0.5
  """Weight of the residual rectification in eq. 1; 0 leaves it out (Fig. 6c)."""
  share_weights: bool = False
  """One set of cell weights for all stages instead of one per stage."""
  exponent: float = 1.0
  """p in u = y / t^p, after LIME (Guo et al. 2017): less than one keeps dark places darker than bright ones."""
  floor: float = 0.001
  """Least illumination."""
  adaptive: bool = False
  """Blend with a level that follows from the image's mean, so that a bright image stays as it is."""

  def __post_init__(self):
    if self.adaptive and self.update != "residual":
      raise UserError("network.illumination.adaptive needs the residual update, not " + self.update)
    require_at_least(1, self, "network.illumination", "stages", "region")
    require_at_least(0, self, "network.illumination", "gamma", "exponent")
    require_at_least(1e-6, self, "network.illumination", "floor", most=0.5)


@dataclasses.dataclass(frozen=True)
class DenoisingOptions:
  """How noise removal is unrolled; the defaults are the paper's form."""

  stages: int = 3
  """N, the number of unrolled stages."""
  channels: int = 6
  """Width of the cell (section 4.1)."""
  update: Literal["residual", "stacked"] = "residual"
  """residual: eq. 3; stacked: the cells in a row on features, one correction at the end, as in the released code."""
  share_weights: bool = False
  """One set of cell weights for all stages instead of one per stage."""
  guided: bool = False
  """Let the illumination say where noise is to be expected."""

  def __post_init__(self):
    require_at_least(1, self, "network.denoising", "stages", "channels")


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
  """Everything that fixes the forward pass but the architecture and the numbers; the defaults are the paper's form."""

  illumination: IlluminationOptions = IlluminationOptions()
  denoising: DenoisingOptions = DenoisingOptions()
  variant: Variant = "i+n"
  """Which result counts: i, the illumination module's u_K; i+n, the noise removal module's x_N."""
  slope: float = 0.05
  """Of the leaky ReLU."""
  smoothing: float = 0.0
  """Width of every kink's rounded corner (leaky ReLU, max, clip); 0 keeps the kinks. The smooth problem is another
  one, for the study of gradients: rounded maxima lie above the true ones."""

  def __post_init__(self):
    require_at_least(0, self, "network", "smoothing")
    require_at_least(0, self, "network", "slope", most=1)


RELEASED = NetworkOptions(
  illumination=IlluminationOptions(update="direct", region=2, window="forward"),
  denoising=DenoisingOptions(update="stacked"),
)
"""The forward pass of the authors' released code."""
