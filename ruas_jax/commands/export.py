"""`ruas export`."""

import dataclasses
import pathlib
from typing import Annotated

import tyro

from ruas_jax.commands.model_choice import ModelChoice


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export(ModelChoice):
  """Write a model as one file that runs without this package: ONNX or StableHLO."""

  file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
  """model.onnx or model.stablehlo. It is written only after its results were compared with this package's."""
  licence: str | None = None
  """Licence of the weights, which is written into the file. None: that of the bundled weights; "not stated" for a
  checkpoint."""
  windows: bool = False
  """Make the mean of the whole image a second input, so that a large image can be computed in windows."""
  overwrite: bool = False
  """Replace an existing file."""

  def run(self) -> None:
    from ruas_jax.export.files import LICENCES, export_model

    bundled = None if self.checkpoint else self.pretrained or "general"
    name = bundled or pathlib.Path(str(self.checkpoint)).name
    licence = self.licence or (LICENCES[bundled] if bundled else "not stated")
    done = export_model(
      self.file, self.model(), name=name, licence=licence, windows=self.windows, overwrite=self.overwrite
    )
    largest = max(difference.largest for difference in done.differences)
    sizes = len({difference[1:3] for difference in done.differences})
    print(f"{self.file}: {done.size / 1000:.1f} kB; largest difference at {sizes} sizes {largest:.1g}")
