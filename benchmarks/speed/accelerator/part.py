"""The process of a part. `python -m benchmarks.speed.accelerator.part MODULE ROWS SECONDS [--quick]` measures it.

Every number is written to the file ROWS as soon as it is measured, one JSON object per line. So nothing that was
measured is lost if the process ends early.
"""

import argparse
import importlib
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ruas_jax.engine.environment import device_in_words, versions
from ruas_jax.engine.metric_log import to_json_value

_SHARE = 0.9  # share of the time after which no new row begins, so that the last row can finish
_LEAST, _MOST = 3, 100  # number of repeats of one measurement
_QUICK = 0.05  # share of the time for repeats in a quick version
Figures = dict[str, Any]


class Part:
  """The tools of a part.

  Attributes:
    quick: whether to measure a small version.
  """

  def __init__(self, name: str, path: str, *, seconds: float, quick: bool):
    self.quick = quick
    self._name, self._path, self._ends = name, path, time.monotonic() + _SHARE * seconds
    self.note()

  def note(self) -> None:
    """Writes the environment of this process. It is called again at the end, because imports change it."""
    kind = jax.devices()[0].device_kind if jax.default_backend() != "cpu" else "cpu"
    self._write(
      {"about": {"device": device_in_words(), "versions": versions()}, "kind": kind, "platform": jax.default_backend()}
    )

  def measure(self, what: Mapping[str, Any], function: Callable[[], Figures | list[Figures]]) -> None:
    """Writes and prints the row, or the rows, `what | function()`.

    An error becomes the row's `error`, and the part continues. A row that would begin too late is `skipped`.
    """
    if time.monotonic() > self._ends:
      rows = [{"skipped": "no time is left"}]
    else:
      try:
        rows = function()
      except Exception as error:
        rows = [{"error": f"{type(error).__name__}: {error}"[:2000]}]
      rows = rows if isinstance(rows, list) else [rows]
    for row in rows:
      row = to_json_value({**what, **row})
      self._write({"row": row, "memory": peak_memory()})
      print(f"{self._name}: {', '.join(f'{name} {_short(value)}' for name, value in row.items())}", flush=True)

  def median_seconds(self, sides: Mapping[str, Callable[[], object]], *, seconds: float = 3.0) -> Figures:
    """Median seconds of each side's calls, which take turns for about this time; and `repeats`.

    Each call must wait for its result. The first call of each side is a warm-up.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for call in sides.values():
      call()
    ends = time.perf_counter() + (_QUICK * seconds if self.quick else seconds)
    for repeat in range(_MOST):
      if repeat >= _LEAST and time.perf_counter() > ends:
        break
      for name, call in sides.items():
        start = time.perf_counter()
        call()
        times[name].append(time.perf_counter() - start)
    return {name: float(np.median(taken)) for name, taken in times.items()} | {
      "repeats": len(next(iter(times.values())))
    }

  def _write(self, values: Mapping[str, Any]) -> None:
    with open(self._path, "a") as file:
      file.write(json.dumps(values, allow_nan=False) + "\n")


def peak_memory() -> dict[str, Any]:
  """The maximum memory of this process so far: device memory if jax counts it, else the machine's."""
  statistics = jax.devices()[0].memory_stats() or {}
  if "peak_bytes_in_use" in statistics:
    return {"peak_bytes": statistics["peak_bytes_in_use"], "of": "device"}
  kilobyte = 1 if sys.platform == "darwin" else 1024
  return {"peak_bytes": kilobyte * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "of": "process"}


def compiled(function: Callable, *arguments: Any) -> tuple[Callable, float]:
  """The compiled program of the jitted function for these arguments, and the seconds of tracing, lowering,
  compiling."""
  start = time.perf_counter()
  program = function.lower(*arguments).compile()
  return program, time.perf_counter() - start


def _short(value: Any) -> str:
  text = f"{value:.4g}" if isinstance(value, float) else str(value)
  return text if len(text) < 200 else text[:200] + " ..."


def main() -> None:
  parser = argparse.ArgumentParser(description="Measures one part; benchmarks.speed.accelerator calls it.")
  parser.add_argument("module")
  parser.add_argument("rows")
  parser.add_argument("seconds", type=float)
  parser.add_argument("--quick", action="store_true")
  arguments = parser.parse_args()
  if arguments.quick and jax.default_backend() == "cpu":  # a test of the code, which is faster this way
    jax.config.update("jax_disable_most_optimizations", True)
  name = arguments.module.rpartition(".")[2]
  part = Part(name, arguments.rows, seconds=arguments.seconds, quick=arguments.quick)
  importlib.import_module(arguments.module).measure(part)
  part.note()


if __name__ == "__main__":
  main()
