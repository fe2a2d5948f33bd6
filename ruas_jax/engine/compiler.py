"""Compiler options for the programs that the package runs."""

import functools
import os

import jax

from ruas_jax.convolution import native

_LEVEL = "xla_backend_optimization_level"
_PASSES = "xla_disable_hlo_passes"


@functools.cache
def compiler_options() -> dict[str, int | bool | str]:
  """Options for `jax.jit(..., compiler_options=)` on the default backend.

  On a CPU: the widest vectors (XLA's default limit is 256 bits); an analysis that removes a quarter of the copies
  around loops; and the first level of optimization, because the heavy loops are in the compiled convolution: a search
  compiles a tenth faster, and its steps are not slower. Also, code stays in the loop: XLA moves what is constant out of
  it before it looks for equal operations, and then no longer finds the equal ones that read it, which are many in a
  search (every loss folds the same weights). A level and passes in XLA_FLAGS are kept.
  """
  if jax.default_backend() != "cpu":
    return {}
  options = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_copy_insertion_use_region_analysis": True}
  flags = os.environ.get("XLA_FLAGS", "")
  if _PASSES not in flags:
    options[_PASSES] = "while-loop-invariant-code-motion"
  if native.form().native and _LEVEL not in flags:
    options[_LEVEL] = 1
  return options
