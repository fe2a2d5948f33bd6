"""`ruas enhance`."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ruas_jax.commands.model_choice import ModelChoice
from ruas_jax.commands.spelling import spell_options
from ruas_jax.errors import UserError
from ruas_jax.lowlight.options import Precision


@dataclasses.dataclass(frozen=True, kw_only=True)
class Enhance(ModelChoice):
  """Brighten photographs and videos: files, or folders of files."""

  inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT...")]
  """Image files, videos, and folders of them."""
  out: str = "bright"
  """Folder of the results. For a single input file it may also be the output file, such as bright.jpg or bright.mp4."""
  recursive: bool = False
  """Also read the sub-folders of the input folders. The results keep their layout."""
  format: Literal["jpeg", "png", "tiff", "webp", "heic", "avif", "jxl"] | None = None
  """Format of all photographs. None: that of each; camera raw becomes TIFF. Videos keep theirs, or become .mkv."""
  quality: int | None = None
  """1 to 100, for formats with loss. Default: JPEG keeps the quality of its input, videos have 80, the others 95."""
  strength: float = 1.0
  """Blend of the photograph (0) and the model's result (1)."""
  denoise: float | None = None
  """Blend of the result without (0) and with noise removal (1). None: that of --variant."""
  exposure: float = 0.0
  """Stops of light that are added to the result: 1 doubles it, -1 halves it."""
  white_balance: float = 0.0
  """How much of the light's colour is taken away, 0 to 1; it is estimated from each photograph. Not for videos."""
  preview: bool = False
  """Write no results, but a small picture of each photograph: the left half before, the right half after. Of a video,
  the frame in its middle is shown."""
  contact_sheet: bool = False
  """Write no results, but one picture with all photographs: the left halves before, the right halves after."""
  jobs: int | None = None
  """Photographs that are decoded and encoded at the same time. None: a quarter of the cores, at least 2."""
  dtype: Literal["float32", "bfloat16"] = "float32"
  """Number format of the computation. bfloat16 is faster on some devices; its mean error is half a percent."""
  precision: Precision = "high"
  """Products of the convolutions on an accelerator. exact: float32. high: three bfloat16 passes on a TPU, float32
  on a GPU. fast: one bfloat16 pass on a TPU, TF32 on a GPU."""
  overwrite: bool = False
  """Replace result files that exist already."""

  def run(self) -> None:
    from ruas_jax.data.formats import PHOTO_FORMATS
    from ruas_jax.engine.memory import keep_freed_memory
    from ruas_jax.engine.progress import progress
    from ruas_jax.photos.enhance import Enhanced, enhance_files
    from ruas_jax.photos.inputs import collect_inputs, is_video, printable, report
    from ruas_jax.photos.writing import check_quality
    from ruas_jax.video.enhance import enhance_videos, read_picture

    keep_freed_memory()
    check_quality(self.quality)
    if self.preview and self.contact_sheet:
      raise UserError("`preview` and `contact_sheet` exclude each other: give only one of them")
    if self.denoise is not None and self.variant:
      raise UserError("`denoise` and `variant` exclude each other: give only one of them")
    picture = "preview" if self.preview else "sheet" if self.contact_sheet else "result"
    format = PHOTO_FORMATS[f".{self.format}"] if self.format else None
    inputs = collect_inputs(self.inputs, self.out, recursive=self.recursive, format=format, picture=picture)
    videos = [file for file in inputs.files if is_video(file[0])] if picture == "result" else []
    photos = dataclasses.replace(inputs, files=tuple(file for file in inputs.files if file not in videos))
    if format and not photos.files:
      raise UserError("`format` is for photographs, and the inputs are videos: leave it out")
    if videos and self.white_balance:
      raise UserError("`white_balance` is for photographs, since it would change from frame to frame: leave out videos")
    options = {name: getattr(self, name) for name in _OPTIONS}
    model, done = self.model(), Enhanced([], list(inputs.skipped), [], [])
    if photos.files:
      with progress(len(photos.files), "enhance") as bar:
        more = {"white_balance": self.white_balance, "jobs": self.jobs, "reader": read_picture}
        done = enhance_files(model, photos, on_file=bar.update, **more, **options)
    if videos:
      more = enhance_videos(model, videos, progress=progress, **options)
      for name in ("written", "warnings", "failures"):
        getattr(done, name).extend(getattr(more, name))
    failed = f", {len(done.failures)} failed" if done.failures else ""
    where = f"{'as' if inputs.is_file else 'in'} {printable(inputs.out)}"
    print(f"{len(done.written)} {'enhanced' if picture == 'result' else 'previewed'} {where}{failed}")
    for line in report(done.skipped):
      print(spell_options(line, Enhance))
    for line in _grouped(done.warnings):
      print(f"ruas: warning: {line}", file=sys.stderr)
    if done.failures:
      raise UserError("\n".join(done.failures))


# The options that photographs and videos share.
_OPTIONS = ("strength", "denoise", "exposure", "dtype", "precision", "quality", "overwrite")


def _grouped(warnings: list[tuple[Path, str]]) -> list[str]:
  """One line for each warning, with the names of its files."""
  from ruas_jax.photos.inputs import name_some

  files = {}
  for path, text in warnings:
    files.setdefault(text, []).append(path)
  return [f"{name_some(paths)}: {text}" for text, paths in files.items()]
