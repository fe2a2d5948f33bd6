"""The convolution for few channels and its weight gradient on one core and on two: the compiled form, XLA's and the
library's, beside a large matrix product.

python -m benchmarks.speed.convolution --json benchmarks/results/convolution.json
"""

import functools
import math
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax.convolution import native, primitives, xla_forms
from ruas_jax.engine.compiler import compiler_options
from ruas_jax.lowlight.operations import CANDIDATES, live_taps

_OPERATIONS = 3e9  # in one program, so that its start does not count
_REQUIRED = (7, 14)  # channels and outputs that the thresholds are for
_SHAPES = [(side, *of) for side in (64, 320) for of in ((3, 6), (6, 12), _REQUIRED)]  # side, channels, outputs
_WIDTH = 2048  # of the matrix product


def in_groups(function: Callable) -> Callable:
  """A function of the package with the axis of groups that the forms have."""

  def of_groups(first, second, *, taps):
    return jax.vmap(functools.partial(function, taps=taps))(first, second)

  return of_groups


def library_correlate(image, cotangent, *, taps, precision=xla_forms.EXACT):
  """The weight gradient that the library derives for its convolution."""
  groups, _, channels = image.shape[:3]
  kernel = jnp.zeros((groups, len(taps), cotangent.shape[2], channels), image.dtype)
  convolve = lambda kernel: xla_forms.convolve_by_library(image, kernel, taps=taps, precision=precision)
  return jax.vjp(convolve, kernel)[1](cotangent)[0]


FORMS = {
  "convolution": {
    "native": in_groups(primitives.convolve),
    "xla": xla_forms.convolve_by_shifts,
    "library": xla_forms.convolve_by_library,
  },
  "weight gradient": {
    "native": in_groups(primitives.correlate),
    "xla": xla_forms.correlate_by_product,
    "library": library_correlate,
  },
}


def main() -> None:
  arguments = argument_parser(__doc__.split("\n\n")[0].replace("\n", " ")).parse_args()
  repeats, shapes = (3, [(64, *_REQUIRED)]) if arguments.quick else (9, _SHAPES)
  available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else 0  # 0: cores cannot be chosen
  rows = []
  for cores in (1, 2) if available >= 2 else (available,):
    # A process each, since XLA counts the cores when it starts.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=use_cores, initargs=(cores,)) as process:
      rows += [
        process.submit(row, kind, *shape, cores=cores, repeats=repeats).result() for kind in FORMS for shape in shapes
      ]
  print_table(rows, "10^9 operations per second")
  ours = "native" if native.form().native else "xla"
  bars = {"convolution_times_the_library": min(row[ours] / row["library"] for row in rows)}
  if ours == "native" and available >= 2:
    for name, kind in (("convolution_gflops", "convolution"), ("weight_gradient_gflops", "weight gradient")):
      bars[name] = min(row["native"] for row in rows if row["cores"] == 2 and row["what"] == kind and is_required(row))
  write_report(
    arguments.json,
    settings={"repeats": repeats, "operations": _OPERATIONS, "product": _WIDTH, "quick": arguments.quick},
    results={"rows": rows},
    bars=bars,
  )


def use_cores(cores: int) -> None:
  """Limits this process to its first `cores` cores; 0: to none."""
  if cores:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def is_required(row: dict) -> bool:
  return (row["channels"], row["outputs"]) == _REQUIRED


def row(kind: str, side: int, channels: int, outputs: int, *, cores: int, repeats: int) -> dict:
  """Medians over runs that take turns, in 10^9 operations per second."""
  taps = live_taps(CANDIDATES, channels)
  rng = np.random.default_rng(0)
  normal = lambda *size: jnp.asarray(rng.normal(size=size), jnp.float32)
  image = normal(1, 1, channels, side, side)
  second = normal(1, len(taps), outputs, channels) if kind == "convolution" else normal(1, 1, outputs, side, side)
  of_one = 2 * len(taps) * channels * outputs * side**2
  calls = math.ceil(_OPERATIONS / of_one)
  operations, programs = {}, {}
  for name, form in FORMS[kind].items():
    if name != "native" or native.form().native:
      programs[name] = functools.partial(repeated(functools.partial(form, taps=taps), name, calls), image, second)
      operations[name] = calls * of_one
  matrix = normal(_WIDTH, _WIDTH)
  programs["product"] = functools.partial(jax.jit(functools.partial(jnp.matmul, precision="highest")), matrix, matrix)
  operations["product"] = 2 * _WIDTH**3
  seconds = {name: [] for name in programs}
  for turn in range(repeats + 1):  # the first one compiles
    for name, program in programs.items():
      start = time.perf_counter()
      program().block_until_ready()
      if turn:
        seconds[name].append(time.perf_counter() - start)
  rates = {name: operations[name] / float(np.median(values)) / 1e9 for name, values in seconds.items()}
  best = rates.get("native", rates["xla"])
  return {
    "what": kind,
    "cores": cores or os.cpu_count(),
    "side": side,
    "channels": channels,
    "outputs": outputs,
    **{name: rates.get(name) for name in (*FORMS[kind], "product")},
    "times_the_library": best / rates["library"],
    "share_of_product": best / rates["product"],
  }


def repeated(form: Callable, name: str, calls: int) -> Callable:
  """A program of so many calls, each with an image that depends on the result of the call before."""

  def many(image, second):
    def body(_, carry):
      image, result = carry
      first = (0,) * image.ndim
      image = image.at[first].add(1e-6 * jnp.tanh(result[(0,) * result.ndim]))  # one number: no pass over the image
      return image, form(image, second)

    return lax.fori_loop(1, calls, body, (image, form(image, second)))[1]

  options = compiler_options()
  if name != "native":  # the options that the package has without the compiled form
    options = {option: value for option, value in options.items() if option != "xla_backend_optimization_level"}
  return jax.jit(many, compiler_options=options)


if __name__ == "__main__":
  main()
