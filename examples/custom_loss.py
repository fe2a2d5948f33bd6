"""Searches and trains RUAS with a custom loss for the illumination.

    python examples/custom_loss.py [--quick]

The loss asks for the mean brightness 0.5 and a smooth illumination in every image. Its arguments are the output of the
illumination module and the dark images, and it returns one number. The hypergradient is computed through it.
"""

import sys

import jax.numpy as jnp

import ruas_jax

quick = "--quick" in sys.argv


def brightness_loss(output, images):
  """`output` is an `IlluminationOutput`: t and u of all stages, `[K, B, H, W, 3]`; `images` are `[B, H, W, 3]`."""
  mean = jnp.mean(output.u[-1], axis=(1, 2, 3))
  return 10 * jnp.mean((mean - 0.5) ** 2) + ruas_jax.lowlight.losses.fidelity(output.t[-1], output.warm_start)


config = ruas_jax.load_config("tiny").with_overrides({"search.steps": 40, "training.steps": 160})
if quick:
  config = config.with_overrides(
    {
      "network.illumination.stages": 1,
      "network.denoising.stages": 1,
      "data.crop": 32,
      "search.steps": 2,
      "training.steps": 2,
    }
  )
ruas_jax.enable_compilation_cache()
found = ruas_jax.search(config, illumination_loss=brightness_loss)
print("found:", found.genotype)
trained = ruas_jax.train(config, found.genotype, illumination_loss=brightness_loss)
dark = jnp.full((64, 64, 3), 0.05)
print(f"an image with brightness 0.05 gets the brightness {float(ruas_jax.enhance(trained.model, dark).mean()):.2f}")
