"""`ruas hypergrad`."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class StudyImages:
  train: str | None = None
  """Low-light images in place of the search's own, half of them for validation: a folder, `builtin`, or
  `tfds:lol/official:train` and the like."""
  tfds_dir: str | None = None
  """Where TFDS data sets live."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hypergrad:
  """Study every hypergradient estimator where a search stopped: errors, time and memory."""

  state: str | None = None
  """Work directory of a finished search; none: a short one is made first."""
  data: StudyImages = StudyImages()
  module: Literal["illumination", "denoising"] = "illumination"
  """Whose bilevel problem."""
  crop: int = 96
  """Side of the square crops in pixels."""
  smoothing: float = 0.01
  """Width of the rounded kinks of the smoothed losses, which stand beside the losses as they are."""
  seed: int = 0
  """Of the crops, of the estimators that draw at random, and of the short search."""
  out: str | None = None
  """Folder of the report, the tables and the plots; none: `hypergrad`, or no folder with --quick."""
  json: str | None = None
  """One more file for the report."""
  quick: bool = False
  """Only what the bars need."""

  def run(self) -> None:
    from ruas_jax.experiments.hypergrad import hypergrad

    out = self.out if self.out or self.quick else "hypergrad"
    options = {name: getattr(self, name) for name in ("state", "module", "crop", "smoothing", "seed", "json", "quick")}
    hypergrad(out=out, train=self.data.train, tfds_dir=self.data.tfds_dir, **options)
    report = f"{out}: hypergrad.json, hypergrad.csv, epsilon.png, horizon.png" if out else None
    places = [place for place in (self.json, report) if place]
    if places:
      print("see", "; ".join(places))
