"""The whole system on a small built-in set: search, training, enhancement and evaluation, with pictures."""

import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from ruas_jax.config import load_config
from ruas_jax.data.opening import open_pairs
from ruas_jax.data.sources import Pairs
from ruas_jax.engine.progress import progress
from ruas_jax.errors import UserError
from ruas_jax.evaluation.evaluate import evaluate, evaluate_images
from ruas_jax.experiments.search import search
from ruas_jax.experiments.train import train
from ruas_jax.files import write_json
from ruas_jax.photos.enhance import enhance_files
from ruas_jax.photos.inputs import collect_inputs
from ruas_jax.photos.model import Model, enhance
from ruas_jax.plots import plot_before_after

_MARK = ".ruas_demo"  # file that marks a folder as made by the demo; only such a folder is removed


def demo(out: str | os.PathLike) -> list[Path]:
  """Runs the demo in the folder `out`, which is replaced; returns the files to open.

  Raises:
    UserError: `out` exists and is not an earlier demo, or cannot be written.
  """
  folder = Path(out)
  if folder.resolve() in (Path.cwd(), *Path.cwd().parents):
    raise UserError(f"`out` {folder}: the demo replaces its folder, so it cannot be the current folder; choose another")
  try:
    if folder.exists():
      if not (folder / _MARK).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"`out` {folder} exists and is not an earlier demo; move it away or choose another `out`")
      shutil.rmtree(folder.resolve())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
  except OSError as error:
    raise UserError(f"`out` {folder}: cannot be written ({error.strerror or error})") from None

  config = load_config("tiny")
  found = search(config, workdir=folder / "search")
  print(f"found {found.genotype}")
  for name in ("genotype.json", "alpha.png", "genotype.png"):
    shutil.copy(folder / "search" / name, folder / name)
  model = train(config, found.genotype, workdir=folder / "model").model
  pairs = open_pairs("builtin")
  _enhance(model, pairs, folder)
  _evaluate(model, pairs, folder)
  files = ("before_after.png", "alpha.png", "genotype.png", "evaluation.json", "genotype.json", "enhanced")
  return [folder / name for name in files] + [folder / "search" / "losses.png", folder / "model" / "losses.png"]


def _enhance(model: Model, pairs: Pairs, folder: Path) -> None:
  """Enhances through files, as `ruas enhance` does."""
  (folder / "dark").mkdir()
  for name, (low, _) in zip(pairs.names, pairs, strict=True):
    Image.fromarray(low).save(folder / "dark" / f"{name}.png")
  with progress(len(pairs), "enhance") as bar:
    inputs = collect_inputs([folder / "dark"], folder / "enhanced")
    done = enhance_files(model, inputs, on_file=bar.update)
  if done.failures:
    raise UserError("\n".join(done.failures))


def _evaluate(model: Model, pairs: Pairs, folder: Path) -> None:
  with progress(len(pairs), "evaluate") as bar:
    report = evaluate(model, pairs, bar.update)
  untouched = evaluate_images(lambda image: image, pairs)
  report |= {"data": "builtin:evaluation", "input": untouched["mean"]}
  write_json(folder / "evaluation.json", report)
  print(
    f"PSNR {untouched['mean']['psnr']:.2f} -> {report['mean']['psnr']:.2f} dB, "
    f"SSIM {untouched['mean']['ssim']:.3f} -> {report['mean']['ssim']:.3f} on {len(pairs)} images not seen in training"
  )
  rows, forward = [], jax.jit(enhance)
  for name, (low, high) in zip(pairs.names, pairs, strict=True):
    low, high = low.astype(np.float32) / 255, high.astype(np.float32) / 255
    captions = {
      column: "{psnr:.2f} dB, {ssim:.3f}".format(**values["images"][name])
      for column, values in (("input", untouched), ("output", report))
    }
    output = np.asarray(forward(model, jnp.asarray(low)))
    rows.append({"name": name, "input": low, "output": output, "reference": high, "captions": captions})
  plot_before_after(folder / "before_after.png", rows, amplify=True)
