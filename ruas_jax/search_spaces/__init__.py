"""The spaces of the tabular benchmark (`ruas_jax.nas.benchmark`): each file defines one, as its `SPACE`."""
