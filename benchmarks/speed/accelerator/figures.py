"""The figures of a device that thresholds and the table of devices use, from the rows of its report.

A figure is that of the faster layout. Products are exact, except in the forward pass. The time of compiling is the
longest of all layouts and precisions.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.bars import BARS

Row = Mapping[str, Any]


def device_figures(results: Mapping[str, Any], platforms: Iterable[str]) -> dict[str, float]:
  """Figures by name, of the parts that ran on one of these platforms. What was not measured is not in it."""
  rows = {name: result["rows"] for name, result in results.items() if result["platform"] in platforms}
  steps, population = rows.get("search_step", ()), rows.get("population", ())
  found = {}
  for size in (64, 320):
    seconds = _values(steps, "seconds", size=size, side="ours", precision="exact")
    found[f"search_step_{size}_milliseconds"] = [1e3 * value for value in seconds]
    for name, side in (("eager", "eager"), ("compiled", "torch.compile")):
      of = {"size": size, "side": side, "torch_device": "cuda"}  # PyTorch on a CPU is no comparison
      found[f"search_step_{size}_times_{name}"] = _values(steps, "times_faster", **of)
  together, one = (
    _values(population, name, size=64, members=16, precision="exact") for name in ("seconds", "seconds_of_one")
  )
  found["population_64_times_one"] = [min(together) / min(one)] if one else []
  images = {"image": "4K", "variant": "i+n", "dtype": "float32", "precision": "fast"}
  milliseconds = _values(rows.get("enhancing", ()), "milliseconds", **images)
  found["forward_4k_per_second"] = [1e3 / min(milliseconds)] if milliseconds else []
  hours = _values(rows.get("paper_search", ()), "hours", size=320, precision="exact")
  found["paper_search_minutes"] = [60 * value for value in hours]
  compiling = _values(steps, "compile_seconds", side="ours")
  return {name: min(values) for name, values in found.items() if values} | (
    {"search_step_compile_seconds": max(compiling)} if compiling else {}
  )


def gpu_bars(results: Mapping[str, Any]) -> dict[str, float]:
  """The figures of the parts that ran on a GPU, for which there are thresholds."""
  figures = {f"gpu_{name}": value for name, value in device_figures(results, ("gpu",)).items()}
  return {name: value for name, value in figures.items() if name in BARS}


def _values(rows: Iterable[Row], name: str, **of: Any) -> list[float]:
  """The values with this name in the rows that have these settings."""
  chosen = (row for row in rows if all(row.get(key) == value for key, value in of.items()))
  return [row[name] for row in chosen if row.get(name) is not None]
