"""Evaluating a model on pairs by the strict protocol: its figures, size and cost as one JSON object."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.data.sources import Pairs
from ruas_jax.errors import UserError
from ruas_jax.evaluation.metrics import PROTOCOL, finite_or_none, psnr, ssim, to_uint8
from ruas_jax.inference.model import Model, enhance

MACS_SIZE = (400, 600)
"""Height and width for which operations are counted, as Table 2 of the paper does."""


def evaluate_images(transform: Callable[[np.ndarray], np.ndarray], pairs: Pairs, on_image=None) -> dict[str, Any]:
  """Mean and per-image PSNR (dB) and SSIM of `transform(image float32 [H, W, 3] in [0, 1])` on pairs.

  `on_image(done, psnr=..., ssim=...)` is called after each image.
  """
  images = {}
  for position, name in enumerate(pairs.names):
    low, high = pairs[position]
    result = to_uint8(np.asarray(transform(low.astype(np.float32) / 255)))
    try:
      images[name] = {"psnr": psnr(result, high), "ssim": ssim(result, high)}
    except UserError as error:
      raise UserError(f"pair {name}: {error}") from None
    if on_image:
      on_image(position + 1, **images[name])
  mean = {
    metric: finite_or_none(float(np.mean([values[metric] for values in images.values()])))
    for metric in ("psnr", "ssim")
  }
  per_image = {
    name: {metric: finite_or_none(value) for metric, value in values.items()} for name, values in images.items()
  }
  return {"mean": mean, "images": per_image}


def evaluate(model: Model, pairs: Pairs, on_image=None) -> dict[str, Any]:
  """`evaluate_images` of a model, with its parameters, multiply-accumulates at 600x400, variant, protocol and weights'
  hash."""
  forward = jax.jit(enhance)
  report = evaluate_images(lambda image: forward(model, jnp.asarray(image)), pairs, on_image)
  return report | {
    "parameters": model.parameters(),
    "macs": model.macs(*MACS_SIZE),
    "variant": model.options.variant,
    "protocol": PROTOCOL,
    "weights_sha256": model.weights_sha256(),
  }
