"""The model that `ruas enhance` and `ruas evaluate` use."""

import dataclasses
from typing import Literal

from ruas_jax.errors import UserError
from ruas_jax.lowlight.options import Variant


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelChoice:
  checkpoint: str | None = None
  """Run folder of `ruas train`, or output of `ruas import`. None: bundled weights."""
  pretrained: Literal["general", "lol"] | None = None
  """Bundled weights: general (the default) for all kinds of photographs, lol for the LOL data set."""
  variant: Variant | None = None
  """Output to use: i is the brightened image, i+n has its noise removed too. None: the model's default."""

  def model(self):
    from ruas_jax.photos.model import load
    from ruas_jax.photos.pretrained import load_pretrained

    if self.checkpoint and self.pretrained:
      raise UserError("--checkpoint and --pretrained exclude each other: give only one of them")
    model = load(self.checkpoint) if self.checkpoint else load_pretrained(self.pretrained or "general")
    return model.with_variant(self.variant)
