"""How a run is shared out over devices. Imports no jax, so that a command's help is there at once."""

import dataclasses

from ruas_jax.errors import require_at_least


@dataclasses.dataclass(frozen=True)
class MeshOptions:
  """How a run is shared out; population times data devices take part."""

  population: int | None = None
  """Devices that share out the members of a population; none: as many as do so evenly."""
  data: int = 1
  """Devices that share out the images of every batch."""

  def __post_init__(self):
    require_at_least(1, self, "mesh", "data", *["population"] * (self.population is not None))
