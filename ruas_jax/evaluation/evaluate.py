"""Evaluating a model on pairs by the strict protocol: its metrics, size and cost as one JSON object."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ruas_jax.data.sources import Pairs
from ruas_jax.errors import UserError
from ruas_jax.evaluation.metrics import PROTOCOL, finite_or_none, psnr, ssim, to_uint8, with_mean_of
from ruas_jax.photos.enhancer import Enhancer
from ruas_jax.photos.model import Model

MACS_SIZE = (400, 600)
"""Height and width for which operations are counted, as in Table 2 of the paper."""


def evaluate_images(
  transform: Callable[[np.ndarray], np.ndarray], pairs: Pairs, on_image=None, on_failure=None
) -> dict[str, Any]:
  """Mean and per-image metrics of `transform(image float32 [H, W, 3] in [0, 1])` on pairs.

  The metrics are `psnr` (dB) and `ssim`; and `gt_mean_psnr` and `gt_mean_ssim`, the same after the result was given the
  reference's mean brightness (`metrics.with_mean_of`).

  `on_image(done, psnr=..., ssim=...)` is called after each image. `on_failure(message)`, if given, is called for a pair
  that cannot be read or compared; the pair is then skipped.

  Raises:
    UserError: without `on_failure`, for the first such pair; with it, if no pair is left.
  """
  images = {}
  for position, name in enumerate(pairs.names):
    try:
      low, high = pairs[position]
      result = to_uint8(np.asarray(transform(low.astype(np.float32) / 255)))
      scaled = with_mean_of(high, result)
      images[name] = {"psnr": psnr(result, high), "ssim": ssim(result, high)}
      images[name] |= {"gt_mean_psnr": psnr(scaled, high), "gt_mean_ssim": ssim(scaled, high)}
    except UserError as error:
      if on_failure is None:
        raise UserError(f"pair {name}: {error}") from None
      on_failure(f"pair {name}: {error}")
      continue
    if on_image:
      on_image(position + 1, psnr=images[name]["psnr"], ssim=images[name]["ssim"])
  if not images:
    raise UserError("no pair could be evaluated")
  columns = {metric: [values[metric] for values in images.values()] for metric in next(iter(images.values()))}
  mean = {metric: finite_or_none(float(np.mean(values))) for metric, values in columns.items()}
  per_image = {
    name: {metric: finite_or_none(value) for metric, value in values.items()} for name, values in images.items()
  }
  return {"mean": mean, "images": per_image}


def evaluate(model: Model, pairs: Pairs, on_image=None, on_failure=None) -> dict[str, Any]:
  """The result of `evaluate_images` for a model, with its number of parameters, multiply-accumulates at 600x400,
  variant, protocol and the hash of its weights."""
  report = evaluate_images(Enhancer(model), pairs, on_image, on_failure)
  return report | {
    "parameters": model.parameters(),
    "macs": model.macs(*MACS_SIZE),
    "variant": model.options.variant,
    "protocol": PROTOCOL,
    "weights_sha256": model.weights_sha256(),
  }
