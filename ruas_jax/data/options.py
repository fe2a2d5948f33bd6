"""The image data and the batches. This file does not import jax, so that command help is fast."""

import dataclasses

from ruas_jax.engine.run_options import Placement
from ruas_jax.errors import require_at_least


@dataclasses.dataclass(frozen=True)
class DataOptions:
  """The images. A source is a folder, `builtin`, or a TFDS split such as `tfds:lol/official:train`."""

  train: str = "builtin"
  """Low-light images for searching or training."""
  val: str | None = None
  """Low-light images for the validation loss of a search. None: a random half of the training images."""
  tfds_dir: str | None = None
  """Folder of the TFDS data sets."""
  crop: int = 320
  """Side of the random square crops in pixels."""
  batch_size: int = 1
  """Number of crops in a step."""
  vary_exposure: float = 0.0
  """Share of the crops that are made brighter or darker at random, so that the network learns all exposures."""
  placement: Placement = "auto"
  """device: all images are in device memory. stream: batches are read ahead. auto: device, up to 1 GiB."""

  def __post_init__(self):
    require_at_least(1, self, "data", "crop", "batch_size")
    require_at_least(0, self, "data", "vary_exposure", most=1)
