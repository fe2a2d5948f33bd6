"""`ruas hypergrad`."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class StudyImages:
  train: str | None = None
  """Low-light images to use instead of the search's images: a folder, `builtin`, or a TFDS split such as
  `tfds:lol/official:train`. Half of them are for validation."""
  tfds_dir: str | None = None
  """Folder of the TFDS data sets."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hypergrad:
  """Measure the error, time and memory of every hypergradient estimator at the end of a search."""

  state: str | None = None
  """Run folder of a finished search. None: a short search is run first."""
  data: StudyImages = StudyImages()
  module: Literal["illumination", "denoising"] = "illumination"
  """Module whose bilevel problem is studied."""
  crop: int = 96
  """Side of the square crops in pixels."""
  smoothing: float = 0.01
  """Width of the rounded corners of the smoothed losses. The losses without smoothing are measured too."""
  seed: int = 0
  """Random seed of the crops, of the stochastic estimators, and of the short search."""
  out: str | None = None
  """Folder of the report, the tables and the plots. None: `hypergrad`; with --quick, no folder is written."""
  json: str | None = None
  """Additional file for the report."""
  quick: bool = False
  """Measure only the numbers that have a threshold."""

  def run(self) -> None:
    from ruas_jax.experiments.hypergrad import hypergrad

    out = self.out if self.out or self.quick else "hypergrad"
    options = {name: getattr(self, name) for name in ("state", "module", "crop", "smoothing", "seed", "json", "quick")}
    hypergrad(out=out, train=self.data.train, tfds_dir=self.data.tfds_dir, **options)
    report = f"{out}: hypergrad.json, hypergrad.csv, epsilon.png, horizon.png" if out else None
    files = [file for file in (self.json, report) if file]
    if files:
      print("see", "; ".join(files))
