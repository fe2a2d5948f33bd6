"""`ruas latency`."""

import dataclasses

from ruas_jax.config import load_config
from ruas_jax.errors import UserError
from ruas_jax.files import check_writable, write_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latency:
  """Measure on this device how long each operation takes in the network, for searches with `--search.cost latency`."""

  json: str
  """JSON file for the table, which `--search.latency-table` reads."""
  config: str = "lol"
  """Configuration whose network is measured: a name in configs/, a Python file with get_config(), or a run's
  config.json."""
  height: int = 400
  """Height of the images in pixels."""
  width: int = 600
  """Width of the images in pixels."""
  repeats: int = 10
  """Times that each network is timed; the fastest counts."""

  def run(self) -> None:
    if min(self.height, self.width, self.repeats) < 1:
      raise UserError("`height`, `width` and `repeats` must be at least 1")
    from ruas_jax.engine.memory import keep_freed_memory
    from ruas_jax.experiments.latency import measure_latency

    keep_freed_memory()

    network = load_config(self.config).network
    check_writable(self.json)  # before the work, so that a wrong path costs no time
    table = measure_latency(network, height=self.height, width=self.width, repeats=self.repeats)
    write_json(self.json, table)
    one_tap = 1e3 * sum(cell["fixed"] for cell in table["seconds"].values())
    print(f"{one_tap:.1f} ms with 1x1 kernels only, {self.width}x{self.height}, {table['device']}; see {self.json}")
