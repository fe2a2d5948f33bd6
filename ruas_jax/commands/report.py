"""`ruas report`."""

import dataclasses
import sys
from typing import Annotated

import tyro

from ruas_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """Write everything that a run folder holds into one HTML file that works without a network."""

  run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
  """Run folder of a search, a training, a population or a member of one; or the output of `ruas hypergrad`."""
  out: str = "report.html"
  """The HTML file."""
  photographs: int = 3
  """Training images to show before and after. 0: none."""
  overwrite: bool = False
  """Replace an existing file."""

  def run(self) -> None:
    if self.photographs < 0:
      raise UserError(f"`photographs` must be at least 0, not {self.photographs}")
    from ruas_jax.experiments.report import report

    done = report(self.run_folder, self.out, photographs=self.photographs, overwrite=self.overwrite)
    for line in done.left_out:
      print(f"ruas: left out: {line}", file=sys.stderr)
    print(f"{self.out}: {done.size / 1000:.0f} kB; {', '.join(done.sections).lower()}")
