"""Compiler options for the programs that the package runs."""

import functools
import os

import jax

from ruas_jax.convolution import native

_LEVEL = "xla_backend_optimization_level"


@functools.cache
def compiler_options() -> dict[str, int | bool]:
  """Options for `jax.jit(..., compiler_options=)` on the default backend.

  On a CPU: the widest vectors (XLA's default limit is 256 bits); an analysis that removes a quarter of the copies
  around loops; and the first level of optimization, because the heavy loops are in the compiled convolution: a search
  compiles a tenth faster, and its steps are not slower. A level in XLA_FLAGS is kept.
  """
  if jax.default_backend() != "cpu":
    return {}
  options = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_copy_insertion_use_region_analysis": True}
  if native.form().native and _LEVEL not in os.environ.get("XLA_FLAGS", ""):
    options[_LEVEL] = 1
  return options
