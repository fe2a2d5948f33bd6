"""What the compiler is told for the programs that the package runs itself."""

import functools

import jax


@functools.cache
def compiler_options() -> dict[str, int]:
  """Options for `jax.jit(..., compiler_options=)` on the default backend.

  A CPU's widest vectors: XLA stops at 256 bits by itself, and the convolutions are a fifth slower so.
  """
  return {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else {}
