"""`ruas import`."""

import dataclasses
from typing import Annotated

import tyro

from ruas_jax.errors import UserError
from ruas_jax.lowlight.options import RELEASED, Variant


@dataclasses.dataclass(frozen=True, kw_only=True)
class Import:
  """Turn your own copy of the authors' released weights (.npz or .pt) into a checkpoint."""

  released: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RELEASED")]
  """The file; it is read without PyTorch, and nothing but tensors is accepted in it."""
  out: str
  """Work directory of the checkpoint."""
  variant: Variant = "i+n"
  """The released lol is used as i+n, upe and dark as i."""
  genotype: str = "published"
  """The architecture of the weights: a genotype.json, or `published`."""
  overwrite: bool = False
  """Replace a checkpoint that is already there."""

  def run(self) -> None:
    from ruas_jax.lowlight.genotype import Genotype
    from ruas_jax.photos.model import Model, has_checkpoint, save_model
    from ruas_jax.photos.released import convert_released
    from ruas_jax.photos.state_dict import read_state_dict

    genotype = Genotype.load(self.genotype)
    if has_checkpoint(self.out) and not self.overwrite:
      raise UserError(f"{self.out} holds a checkpoint already; --overwrite replaces it")
    weights = convert_released(read_state_dict(self.released), genotype)
    model = Model(weights, genotype, RELEASED).with_variant(self.variant)
    save_model(self.out, model)
    print(f"checkpoint in {self.out}: {model.parameters()} parameters, variant {self.variant}")
