"""The unrolled Retinex network: illumination module, noise removal module, and the Flax module over both."""
