"""RUAS for JAX: Retinex-inspired unrolling with cooperative prior architecture search for low-light image enhancement.

    model = ruas_jax.load_pretrained("general")
    bright = ruas_jax.enhance(model, images)

`images` are float `[..., H, W, 3]` in [0, 1]; the function is pure, so jit and vmap work.

The public names are listed in `__init__.pyi`. Each is imported when it is first used, so that `import ruas_jax` is
fast.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
