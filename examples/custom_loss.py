"""RUAS searched and trained with a loss for the illumination that you write yourself.

    python examples/custom_loss.py [--quick]

The loss asks every image for the mean brightness 0.5 and a smooth illumination. It gets what the illumination module
computes and the dark images, and returns one number; the hypergradient looks through it.
"""

import sys

import jax.numpy as jnp

import ruas_jax

quick = "--quick" in sys.argv


def brightness_loss(output, images):
  """`output` is an `IlluminationOutput`: stages of t and u, `[K, B, H, W, 3]`; `images` are `[B, H, W, 3]`."""
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
print(f"an image of brightness 0.05 comes out with {float(ruas_jax.enhance(trained.model, dark).mean()):.2f}")
