"""Which model `ruas enhance` and `ruas evaluate` use."""

import dataclasses
from typing import Literal

from ruas_jax.errors import UserError
from ruas_jax.lowlight.options import Variant


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelChoice:
  checkpoint: str | None = None
  """Work directory of `ruas train` or `ruas import`; none: bundled weights."""
  pretrained: Literal["general", "lol"] | None = None
  """Bundled weights: general (the default), for photographs of all kinds, or lol, for those of the LOL data set."""
  variant: Variant | None = None
  """Result to take: i after illumination, i+n after noise removal; none: the model's own."""

  def model(self):
    from ruas_jax.photos.model import load
    from ruas_jax.photos.pretrained import load_pretrained

    if self.checkpoint and self.pretrained:
      raise UserError("give --checkpoint or --pretrained, not both")
    model = load(self.checkpoint) if self.checkpoint else load_pretrained(self.pretrained or "general")
    return model.with_variant(self.variant)
