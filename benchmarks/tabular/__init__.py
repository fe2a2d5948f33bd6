"""The tables of `ruas_jax.nas.benchmark`: making and checking them."""
