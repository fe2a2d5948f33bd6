"""Losses of a network without references: a trained model's score for choosing among seeds, and a supernet's."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ruas_jax.config import Config
from ruas_jax.data.crops import random_crops
from ruas_jax.data.sources import ImageSource
from ruas_jax.lowlight.network import Network
from ruas_jax.lowlight.objectives import make_objectives
from ruas_jax.photos.model import Model

Scorer = Callable[[Any, dict[str, Any], ImageSource], dict[str, float]]
"""`(weights, mixing weights, images) -> {"illumination", "denoising", "total"}`."""


def score(model: Model, config: Config, images: ImageSource) -> dict[str, float]:
  """Mean L_t and L_n over one crop of every image, as `{"illumination", "denoising", "total"}`; lower is better.

  The crops have `config.data.crop` pixels, keep the exposures of the images, and are the same for every model. total is
  `L_t + beta L_n`, the validation loss of the search (eq. 5).
  """
  return make_scorer(model.network, config)(model.weights, {}, images)


def make_scorer(network: Network, config: Config) -> Scorer:
  """`score` of any weights of `network`, which is compiled once. A supernet needs its mixing weights."""
  objectives = make_objectives(network, config.loss)

  @jax.jit
  def losses(weights, shares, batch, key):
    crops = random_crops(batch, key, crop=config.data.crop)
    loss_t, illuminated = objectives.illumination(weights["illumination"], shares.get("illumination"), crops)
    return loss_t, objectives.denoising(weights["denoising"], shares.get("denoising"), illuminated)

  def mean(weights, shares, images: ImageSource) -> dict[str, float]:
    each = []
    largest = np.max(images.sizes(), axis=0)
    for index in range(len(images)):
      image = images[index]
      size = np.array(image.shape[:2], np.int32)
      padded = np.pad(image, (*((0, more) for more in largest - size), (0, 0)))  # one shape, hence one program
      batch = {"image": padded[None], "size": size[None]}
      each.append(losses(weights, shares, batch, jax.random.fold_in(jax.random.key(0), index)))
    illumination, denoising = (float(np.mean(values)) for values in zip(*jax.device_get(each), strict=True))
    return {
      "illumination": illumination,
      "denoising": denoising,
      "total": illumination + config.loss.beta * denoising,
    }

  return mean
