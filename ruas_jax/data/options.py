"""Where images come from, and how they become batches. Imports no jax, so that a command's help is there at once."""

import dataclasses

from ruas_jax.engine.run_options import Placement
from ruas_jax.errors import require_at_least


@dataclasses.dataclass(frozen=True)
class DataOptions:
  """Where images come from. A place is a folder, `builtin`, or `tfds:lol/official:train` and the like."""

  train: str = "builtin"
  """Low-light images to search or train on."""
  val: str | None = None
  """Low-light images for the search's validation loss; none: a seeded half of the training images instead."""
  tfds_dir: str | None = None
  """Where TFDS data sets live."""
  crop: int = 320
  """Side of the random square crops in pixels."""
  batch_size: int = 1
  """Crops in a step."""
  vary_exposure: float = 0.0
  """Share of the crops that are made brighter or darker at random, so that every exposure is learned from."""
  placement: Placement = "auto"
  """device: all images lie there; stream: batches are read ahead; auto: device if they take at most 1 GiB."""

  def __post_init__(self):
    require_at_least(1, self, "data", "crop", "batch_size")
    require_at_least(0, self, "data", "vary_exposure", most=1)
