"""Random training crops on the device: pure JAX, inside the jitted step, from the padded batches of `pipeline`.

A crop depends on nothing but the key, the image and its true size: not on the padding, nor on how the batch came here.
"""

import chex
import jax
import jax.numpy as jnp


def random_crops(
  batch: dict[str, chex.Array], key: chex.PRNGKey, *, crop: int, dtype: jnp.dtype = jnp.float32
) -> chex.Array:
  """One square crop of each image, its corner uniform over the places where the crop fits.

  Args:
    batch: "image" uint8 [B, H, W, 3], padded at the bottom and right; "size" int32 [B, 2], true (height, width), each
      at least `crop` (`pipeline.check_crop` sees to that, since traced sizes cannot raise).
    key: one key for the call, usually folded from (seed, step); image i uses `fold_in(key, i)`.
    crop: side of the crop in pixels.
    dtype: of the result.

  Returns:
    [B, crop, crop, 3] in [0, 1].
  """
  images, sizes = batch["image"], batch["size"]
  keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(images.shape[0]))

  def one(image, size, image_key):
    top, left = jax.random.randint(image_key, (2,), 0, size - crop + 1, dtype=jnp.int32)
    return jax.lax.dynamic_slice(image, (top, left, jnp.zeros_like(top)), (crop, crop, image.shape[-1]))

  crops = jax.vmap(one)(images, sizes, keys)
  return (crops.astype(jnp.float32) / 255).astype(dtype)
