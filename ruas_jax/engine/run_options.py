"""How a run is carried out: where, how often it is saved, when it is stopped. None of it changes what is computed."""

import dataclasses
from typing import Literal

from ruas_jax.engine.mesh_options import MeshOptions
from ruas_jax.errors import UserError, require_at_least

Placement = Literal["auto", "device", "stream"]

LARGEST_LOSS = 1e6


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
  """Snapshots of a run, from which it goes on after it was stopped or killed."""

  every: int = 100
  """Steps between two of them; there is always one before the first step and one after the last."""
  keep: int = 3
  """How many of the newest stay."""

  def __post_init__(self):
    require_at_least(1, self, "checkpoint", "every", "keep")


@dataclasses.dataclass(frozen=True)
class RunOptions:
  """How a run is carried out."""

  fresh: bool = False
  """Begin anew in an empty folder, in place of going on with the run that is in it."""
  overwrite: bool = False
  """Begin anew, in place of a run that is already there."""
  largest_loss: float = LARGEST_LOSS
  """A loss beyond it has exploded and stops the run, as one that is not finite does."""
  tensorboard: bool = False
  """Write the metrics for TensorBoard too, into the folder `tensorboard`; needs the extra of that name."""
  checkpoint: CheckpointOptions = CheckpointOptions()
  mesh: MeshOptions = MeshOptions()

  def __post_init__(self):
    if not self.largest_loss > 0:  # infinite: no loss is too large
      raise UserError(f"largest_loss must be greater than 0, not {self.largest_loss}")
