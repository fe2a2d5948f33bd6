"""Compiling the package's convolutions with TF32."""

import contextlib
from collections.abc import Iterator

from jax import lax

from ruas_jax.convolution import xla_forms


@contextlib.contextmanager
def convolutions_in(precision: lax.Precision) -> Iterator[None]:
  """Context in which convolutions and weight gradients are compiled with this precision. HIGHEST is float32; DEFAULT
  may round operands to TF32 if the device has it. The package has no option for that; this measures whether it
  should."""
  exact = xla_forms._EXACT
  xla_forms._EXACT = precision
  try:
    yield
  finally:
    xla_forms._EXACT = exact
