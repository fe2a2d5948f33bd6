"""The unrolled Retinex network: illumination module, noise removal module, and the Flax module over both."""

import lazy_loader

# `ruas_jax.losses` is a module of this one, imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["losses"])
