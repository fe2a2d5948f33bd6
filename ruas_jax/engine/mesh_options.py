"""How a run is divided over devices. This file does not import jax, so that command help is fast."""

import dataclasses

from ruas_jax.errors import require_at_least


@dataclasses.dataclass(frozen=True)
class MeshOptions:
  """How a run is divided over devices. It uses `population` times `data` devices."""

  population: int | None = None
  """Number of devices for the members of a population. None: the largest number that divides them evenly."""
  data: int = 1
  """Number of devices for the images of every batch."""

  def __post_init__(self):
    require_at_least(1, self, "mesh", "data", *["population"] * (self.population is not None))
