"""Benchmark of `ruas_jax.bilevel`: solvers on the standard problems, and PyTorch libraries on the same problems."""
