"""`ruas import`."""

import dataclasses
from typing import Annotated

import tyro

from ruas_jax.errors import UserError
from ruas_jax.lowlight.options import RELEASED, Variant


@dataclasses.dataclass(frozen=True, kw_only=True)
class Import:
  """Turn a copy of the authors' released weights (.npz or .pt) into a checkpoint."""

  released: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RELEASED")]
  """File of released weights. PyTorch is not needed; a file that holds more than tensors is refused."""
  out: str
  """Folder of the new checkpoint."""
  variant: Variant = "i+n"
  """Network output to use. The released lol is an i+n model; upe and dark are i models."""
  genotype: str = "published"
  """Architecture of the weights: a genotype.json, or `published`."""
  overwrite: bool = False
  """Replace an existing checkpoint."""

  def run(self) -> None:
    from ruas_jax.lowlight.genotype import Genotype
    from ruas_jax.photos.model import Model, has_checkpoint, save_model
    from ruas_jax.photos.released import convert_released
    from ruas_jax.photos.state_dict import read_state_dict

    genotype = Genotype.load(self.genotype)
    if has_checkpoint(self.out) and not self.overwrite:
      raise UserError(f"{self.out} holds a checkpoint already; choose another --out, or set --overwrite to replace it")
    weights = convert_released(read_state_dict(self.released), genotype)
    model = Model(weights, genotype, RELEASED).with_variant(self.variant)
    save_model(self.out, model)
    print(f"checkpoint in {self.out}: {model.parameters()} parameters, variant {self.variant}")
