"""RUAS: the unrolled Retinex network of the illumination and noise removal modules, its losses, search and training."""
