"""`ruas enhance`."""

import dataclasses
import sys
from pathlib import Path
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
  """Folder of the results; of one input file also the result itself (bright.jpg), in the format of its extension."""
  recursive: bool = False
  """Enter the sub-folders of folders too; the results keep their layout."""
  quality: int | None = None
  """1 to 100, for JPEG and lossy WebP. If not given, JPEG is as fine as its input was, and WebP has 95."""
  strength: float = 1.0
  """0 leaves a photograph as it is, 1 is the model's result, between them a blend."""
  dtype: Literal["float32", "bfloat16"] = "float32"
  """What is computed in; bfloat16 is for devices that are faster in it, and off by half a percent on average."""
  overwrite: bool = False
  """Replace results that are already there."""

  def run(self) -> None:
    from ruas_jax.engine.progress import progress
    from ruas_jax.photos.enhance import enhance_files
    from ruas_jax.photos.inputs import collect_inputs, printable, report
    from ruas_jax.photos.writing import check_quality

    check_quality(self.quality)
    inputs = collect_inputs(self.inputs, self.out, recursive=self.recursive)
    model = self.model()
    with progress(len(inputs.files), "enhance") as bar:
      done = enhance_files(
        model,
        inputs,
        strength=self.strength,
        dtype=self.dtype,
        quality=self.quality,
        overwrite=self.overwrite,
        on_file=bar.update,
      )
    failed = f", {len(done.failures)} failed" if done.failures else ""
    print(f"{len(done.written)} enhanced {'as' if inputs.format else 'in'} {printable(self.out)}{failed}")
    for line in report(done.skipped):
      print(line)
    for line in _grouped(done.warnings):
      print(f"ruas: warning: {line}", file=sys.stderr)
    if done.failures:
      raise UserError("\n".join(done.failures))


def _grouped(warnings: list[tuple[Path, str]]) -> list[str]:
  """One line for each text, with the files that it is about."""
  from ruas_jax.photos.inputs import name_some

  files = {}
  for path, text in warnings:
    files.setdefault(text, []).append(path)
  return [f"{name_some(paths)}: {text}" for text, paths in files.items()]
