"""The convolution for few channels and its weight gradient on this machine, compared with the library's.

python -m benchmarks.speed.convolution --json benchmarks/results/convolution.json
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.limits import measure_machine
from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax.convolution import xla_forms
from ruas_jax.engine.compiler import compiler_options
from ruas_jax.lowlight.operations import CANDIDATES, live_taps

_CALLS = 10  # in one program: a single call would mostly measure the allocator
_SHAPES = [(64, 3, 6), (64, 6, 12), (320, 3, 6), (320, 6, 12)]  # of the search: side, channels, outputs


def library_correlate(image, cotangent, *, taps):
  """The weight gradient that the library derives for its convolution."""
  groups, _, channels = image.shape[:3]
  kernel = jnp.zeros((groups, len(taps), cotangent.shape[2], channels), image.dtype)
  convolve = lambda kernel: xla_forms.convolve_by_library(image, kernel, taps=taps)
  return jax.vjp(convolve, kernel)[1](cotangent)[0]


LOWERINGS = {
  "convolution": {"ours": xla_forms.convolve_by_shifts, "library": xla_forms.convolve_by_library},
  "weight gradient": {"ours": xla_forms.correlate_by_product, "library": library_correlate},
}


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  repeats, shapes = (3, _SHAPES[:1]) if arguments.quick else (9, _SHAPES)
  machine = measure_machine()
  rows = [row(kind, *shape, repeats=repeats, peak=machine.operations) for kind in LOWERINGS for shape in shapes]
  print_table(rows, "10^9 operations per second")
  slowest = min(row["ours"] / row["library"] for row in rows)
  write_report(
    arguments.json,
    settings={"repeats": repeats, "calls": _CALLS, "quick": arguments.quick},
    results={"rows": rows, "machine": machine._asdict()},
    bars={"convolution_times_the_library": slowest},
  )


def row(kind: str, side: int, channels: int, outputs: int, *, repeats: int, peak: float) -> dict:
  """Medians over runs that take turns."""
  taps = live_taps(CANDIDATES, channels)
  rng = np.random.default_rng(0)
  image = jnp.asarray(rng.normal(size=(1, 1, channels, side, side)), jnp.float32)
  second_shape = (1, len(taps), outputs, channels) if kind == "convolution" else (1, 1, outputs, side, side)
  second = jnp.asarray(rng.normal(size=second_shape), jnp.float32)
  programs = {}
  for name, lowering in LOWERINGS[kind].items():
    call = functools.partial(lowering, taps=taps)

    def many(image, second, call=call):
      # Each call depends on all results of the one before, because the compiler would otherwise compute only a part.
      body = lambda _, total: call(image + 1e-6 * jnp.tanh(jnp.sum(total)), second)
      return lax.fori_loop(0, _CALLS, body, call(image, second))

    programs[name] = jax.jit(many, compiler_options=compiler_options())
    programs[name](image, second).block_until_ready()
  seconds = {name: [] for name in programs}
  for _ in range(repeats):
    for name, program in programs.items():
      start = time.perf_counter()
      program(image, second).block_until_ready()
      seconds[name].append((time.perf_counter() - start) / (_CALLS + 1))
  operations = 2 * len(taps) * channels * outputs * side**2
  rates = {name: operations / float(np.median(values)) for name, values in seconds.items()}
  return {
    "what": kind,
    "side": side,
    "channels": f"{channels} to {outputs}",
    **{name: rate / 1e9 for name, rate in rates.items()},
    "times_the_library": rates["ours"] / rates["library"],
    "share_of_peak": rates["ours"] / peak,
  }


if __name__ == "__main__":
  main()
