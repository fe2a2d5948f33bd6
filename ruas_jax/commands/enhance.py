"""`ruas enhance`."""

import dataclasses
from typing import Annotated, Literal

import tyro

from ruas_jax.commands.model_choice import ModelChoice
from ruas_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Enhance(ModelChoice):
  """Brighten photographs: files, or folders of files."""

  inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT...")]
  """Image files and folders."""
  out: str = "bright"
  """Folder of the results; each has its input's name, size, depth and metadata."""
  strength: float = 1.0
  """0 leaves a photograph as it is, 1 is the model's result, between them a blend."""
  dtype: Literal["float32", "bfloat16"] = "float32"
  """What is computed in; bfloat16 is for devices that are faster in it, and off by half a percent on average."""
  overwrite: bool = False
  """Replace results that are already there."""

  def run(self) -> None:
    from ruas_jax.engine.progress import progress
    from ruas_jax.inference.enhance import enhance_files
    from ruas_jax.inference.image_files import collect_inputs

    files = len(collect_inputs(self.inputs))
    model = self.model()
    with progress(files, "enhance") as bar:
      written, failures = enhance_files(
        model,
        self.inputs,
        self.out,
        strength=self.strength,
        dtype=self.dtype,
        overwrite=self.overwrite,
        on_file=bar.update,
      )
    print(f"{len(written)} enhanced in {self.out}")
    if failures:
      raise UserError("\n".join(failures))
