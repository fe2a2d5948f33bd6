"""RUAS: the unrolled Retinex network of the illumination and noise removal modules, its losses, search and training."""

import lazy_loader

# `ruas_jax.losses` is a module of this one, imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["losses"])
