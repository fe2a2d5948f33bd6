"""Random training crops on the device, in pure JAX inside the jitted step, from padded batches.

A crop depends only on the key, the image and its true size. It does not depend on the padding, or on how data are fed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

_MEANS = (0.02, 0.6)  # range of the mean of a crop whose exposure is varied


def random_crops(
  batch: dict[str, jax.Array],
  key: jax.Array,
  *,
  crop: int,
  dtype: DTypeLike = jnp.float32,
  vary_exposure: float = 0.0,
) -> jax.Array:
  """One square crop of each image, with a corner that is uniform over all positions where the crop fits.

  Args:
    batch: "image" uint8 [B, H, W, 3], padded at the bottom and right; "size" int32 [B, 2], the true (height, width),
      each at least `crop` (`padded.check_crop` ensures it, because traced sizes cannot raise).
    key: one key for the call, usually folded from (seed, step); image i uses `fold_in(key, i)`.
    crop: side of the crop in pixels.
    dtype: dtype of the result.
    vary_exposure: share of the crops that are multiplied by a factor and clipped at one. The factor gives a mean
      between 0.02 and 0.6, uniform in its logarithm.

  Returns:
    [B, crop, crop, 3] in [0, 1].
  """
  images, sizes = batch["image"], batch["size"]
  keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(images.shape[0]))

  def crop_one(image, size, image_key):
    top, left = jax.random.randint(image_key, (2,), 0, size - crop + 1, dtype=jnp.int32)
    return jax.lax.dynamic_slice(image, (top, left, jnp.zeros_like(top)), (crop, crop, image.shape[-1]))

  crops = jax.vmap(crop_one)(images, sizes, keys)
  crops = crops.astype(jnp.float32) / 255
  if vary_exposure:
    crops = jax.vmap(functools.partial(_vary, share=vary_exposure))(crops, keys)
  return crops.astype(dtype)


def _vary(crop, key, *, share):
  chosen, mean_key = jax.random.split(jax.random.fold_in(key, 1))  # `key` itself was used for the crop's position
  mean = jnp.exp(jax.random.uniform(mean_key, (), crop.dtype, *np.log(_MEANS)))
  varied = jnp.minimum(crop * (mean / jnp.maximum(jnp.mean(crop), 1e-3)), 1)
  return jnp.where(jax.random.bernoulli(chosen, share), varied, crop)
