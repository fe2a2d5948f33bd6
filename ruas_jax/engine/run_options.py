"""How a run is carried out: saving, stopping, devices. These options do not change the results."""

import dataclasses
from typing import Literal

from ruas_jax.engine.mesh_options import MeshOptions
from ruas_jax.errors import UserError, require_at_least

Placement = Literal["auto", "device", "stream"]

LARGEST_LOSS = 1e6
START_ANEW = "choose another `workdir`, or set `overwrite` to start anew"  # end of an error about a run folder


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
  """Snapshots of a run. A run that was stopped or killed is resumed from the newest one."""

  every: int = 100
  """Steps between two snapshots. The first and the last state of a run are always saved."""
  keep: int = 3
  """Number of newest snapshots to keep."""

  def __post_init__(self):
    require_at_least(1, self, "checkpoint", "every", "keep")


@dataclasses.dataclass(frozen=True)
class RunOptions:
  """How a run is carried out."""

  fresh: bool = False
  """Start a new run and require an empty folder, instead of resuming."""
  overwrite: bool = False
  """Delete the run in the folder and start a new one."""
  allow_other_arithmetic: bool = False
  """Resume a run even if the convolution has another form now (see `ruas info`), which changes the last bits."""
  largest_loss: float = LARGEST_LOSS
  """The run stops with an error when a loss is larger than this, or not finite."""
  tensorboard: bool = False
  """Also write the metrics for TensorBoard, into the folder `tensorboard`. Needs the extra `tensorboard`."""
  checkpoint: CheckpointOptions = CheckpointOptions()
  mesh: MeshOptions = MeshOptions()

  def __post_init__(self):
    if not self.largest_loss > 0:  # infinite: no loss is too large
      raise UserError(f"`largest_loss` must be greater than 0, not {self.largest_loss}")
