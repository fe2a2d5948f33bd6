"""What the compiler is told for the programs that the package runs itself."""

import functools

import jax


@functools.cache
def compiler_options() -> dict[str, int | bool]:
  """Options for `jax.jit(..., compiler_options=)` on the default backend.

  On a CPU, its widest vectors: XLA stops at 256 bits by itself, and the convolutions are a fifth slower so; and a
  closer look at which copies are needed: a quarter of those around loops are not.
  """
  if jax.default_backend() != "cpu":
    return {}
  return {"xla_cpu_prefer_vector_width": 512, "xla_cpu_copy_insertion_use_region_analysis": True}
