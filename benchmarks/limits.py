"""The limits of a machine: its measured peak rate and bandwidth, and the operations and bytes of a program."""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

_WIDTH = 2048  # of the matrix product that measures the peak rate
_BYTES = 2**28  # of the array that measures the bandwidth


class Machine(NamedTuple):
  """Attributes:
  operations: operations per second of a large float32 matrix product.
  bytes: bytes per second, read and written, of scaling and copying a large array.
  """

  operations: float
  bytes: float


class Work(NamedTuple):
  """Attributes:
  operations: multiplications and additions of convolutions and of their weight gradients.
  bytes: bytes of the operands and results of these convolutions, each read or written once.
  """

  operations: float
  bytes: float

  def limits(self, machine: Machine) -> dict[str, float]:
    """Minimum seconds by each limit."""
    return {"arithmetic_seconds": self.operations / machine.operations, "memory_seconds": self.bytes / machine.bytes}


def measure_machine(repeats: int = 7) -> Machine:
  """The best of a few runs, because other programs can only make a run slower."""
  matrix = jnp.asarray(np.random.default_rng(0).normal(size=(_WIDTH, _WIDTH)), jnp.float32)
  array = jnp.zeros(_BYTES // 4, jnp.float32)
  product = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
  scaled = jax.jit(lambda a: a * 1.5, donate_argnums=0)
  product(matrix).block_until_ready()
  best = {"product": np.inf, "copy": np.inf}
  for _ in range(repeats):
    start = time.perf_counter()
    product(matrix).block_until_ready()
    middle = time.perf_counter()
    array = scaled(array).block_until_ready()
    end = time.perf_counter()
    best = {"product": min(best["product"], middle - start), "copy": min(best["copy"], end - middle)}
  return Machine(2 * _WIDTH**3 / best["product"], 2 * _BYTES / best["copy"])


def count_work(function, *arguments) -> Work:
  """The work of the convolutions in `function(*arguments)`; a loop counts as often as it runs."""
  return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Jaxpr) -> Work:
  operations = moved = 0.0
  for equation in jaxpr.eqns:
    if equation.primitive.name in ("ruas_convolve", "ruas_correlate", "ruas_convolve_parts"):
      arrays = [variable.aval for variable in (*equation.invars, *equation.outvars)]
      if equation.primitive.name == "ruas_correlate":
        image, cotangent = arrays[0].shape, arrays[1].shape  # [G, B, C, H, W] and [G, B, O, H, W]
        operations += 2 * len(equation.params["taps"]) * cotangent[2] * np.prod(image)
      else:
        (kernel,) = (array for array in arrays if array.ndim == 4)  # [G, T, O, C]
        _, images, _, height, width = arrays[-1].shape
        operations += 2 * kernel.size * images * height * width
      moved += sum(array.size * array.dtype.itemsize for array in arrays)
      continue
    times = equation.params["length"] if equation.primitive.name == "scan" else 1
    for inner in _inside(equation.params):
      work = _count(inner)
      operations, moved = operations + times * work.operations, moved + times * work.bytes
  return Work(float(operations), float(moved))


def _inside(parameters: dict[str, Any]):
  for value in parameters.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      if isinstance(item, ClosedJaxpr):
        yield item.jaxpr
      elif isinstance(item, Jaxpr):
        yield item
