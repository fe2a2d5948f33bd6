"""Compiler options for the programs that the package runs."""

import functools

import jax


@functools.cache
def compiler_options() -> dict[str, int | bool]:
  """Options for `jax.jit(..., compiler_options=)` on the default backend.

  On a CPU: the widest vectors (XLA's default limit of 256 bits makes the convolutions a fifth slower), and an analysis
  that removes a quarter of the copies around loops.
  """
  if jax.default_backend() != "cpu":
    return {}
  return {"xla_cpu_prefer_vector_width": 512, "xla_cpu_copy_insertion_use_region_analysis": True}
