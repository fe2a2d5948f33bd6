"""A trained model's score without references: its losses on images, for choosing among seeds."""

import jax
import numpy as np

from ruas_jax.config import Config
from ruas_jax.data.crops import random_crops
from ruas_jax.data.sources import ImageSource
from ruas_jax.lowlight.objectives import make_objectives
from ruas_jax.photos.model import Model


def score(model: Model, config: Config, images: ImageSource) -> dict[str, float]:
  """Mean L_t and L_n over one crop of every image, as `{"illumination", "denoising", "total"}`; lower is better.

  The crops have `config.data.crop` pixels, keep the exposures of the images, and are the same for every model. total is
  `L_t + beta L_n`, the validation loss of the search (eq. 5).
  """
  objectives = make_objectives(model.network, config.loss)

  @jax.jit
  def losses(weights, batch, key):
    crops = random_crops(batch, key, crop=config.data.crop)
    loss_t, illuminated = objectives.illumination(weights["illumination"], None, crops)
    return loss_t, objectives.denoising(weights["denoising"], None, illuminated)

  each = []
  largest = np.max(images.sizes(), axis=0)
  for index in range(len(images)):
    image = images[index]
    size = np.array(image.shape[:2], np.int32)
    padded = np.pad(image, (*((0, more) for more in largest - size), (0, 0)))  # one shape, hence one program
    batch = {"image": padded[None], "size": size[None]}
    each.append(losses(model.weights, batch, jax.random.fold_in(jax.random.key(0), index)))
  illumination, denoising = (float(np.mean(values)) for values in zip(*jax.device_get(each), strict=True))
  return {
    "illumination": illumination,
    "denoising": denoising,
    "total": illumination + config.loss.beta * denoising,
  }
