"""Compiling the package's convolutions with TF32."""

import contextlib
from collections.abc import Iterator

from jax import lax

from ruas_jax.convolution import xla_forms


@contextlib.contextmanager
def convolutions_in(precision: lax.Precision) -> Iterator[None]:
  """What is compiled inside has its convolutions and weight gradients in this precision: HIGHEST is float32, DEFAULT
  may round operands to TF32 where the device has it. The package has no option for that: whether it should is to be
  found out."""
  exact = xla_forms._EXACT
  xla_forms._EXACT = precision
  try:
    yield
  finally:
    xla_forms._EXACT = exact
