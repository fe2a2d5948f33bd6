"""`ruas evaluate`."""

import dataclasses

from ruas_jax.commands.model_choice import ModelChoice
from ruas_jax.errors import UserError
from ruas_jax.files import check_writable, write_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate(ModelChoice):
  """Measure PSNR and SSIM on pairs of images, and the model's size and cost.

  They are measured strictly, and again with GT-mean: after the result was scaled to the reference's mean grey level.
  """

  low: str
  """Folder of low-light images."""
  high: str
  """Folder of the reference images, which have the same names."""
  json: str
  """JSON file for the result."""

  def run(self) -> None:
    from ruas_jax.data.sources import PairFolders
    from ruas_jax.engine.memory import keep_freed_memory
    from ruas_jax.engine.progress import progress
    from ruas_jax.evaluation.evaluate import evaluate

    keep_freed_memory()
    model = self.model()
    pairs = PairFolders(self.low, self.high)
    check_writable(self.json)  # before the work, so that a wrong path costs no time
    failures = []
    with progress(len(pairs), "evaluate") as bar:
      report = evaluate(model, pairs, bar.update, failures.append)
    write_json(self.json, report)
    mean = report["mean"]
    print(
      f"{_decibels(mean['psnr'])} dB, SSIM {mean['ssim']:.4f} "
      f"(with GT-mean {_decibels(mean['gt_mean_psnr'])} dB, {mean['gt_mean_ssim']:.4f}) "
      f"over {len(report['images'])} images; "
      f"variant {report['variant']}, {report['parameters']} parameters, "
      f"{report['macs'] / 1e9:.3f} G multiply-accumulates at 600x400; see {self.json}"
    )
    if failures:
      raise UserError("\n".join(failures))


def _decibels(psnr: float | None) -> str:
  return "infinite" if psnr is None else f"{psnr:.3f}"  # None where an image equals its reference
