"""Prints the table of devices that the README has, from `benchmarks/results/accelerator_*.json`.

python -m benchmarks.speed.accelerator.table
"""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.speed.accelerator.figures import device_figures

RESULTS = pathlib.Path(__file__).parents[2] / "results"
_NO_RECORD = "No GPU or TPU has been measured yet. `python -m benchmarks.speed.accelerator` measures one."
_ROWS = {
  f"an exact search step at {size}x{size}": {
    f"search_step_{size}_milliseconds": "{:.3g} ms",
    f"search_step_{size}_times_eager": "{:.3g}× eager PyTorch",
    f"search_step_{size}_times_compiled": "{:.3g}× `torch.compile`",
  }
  for size in (64, 320)
} | {
  "a step of 16 searches at 64x64": {"population_64_times_one": "{:.3g} times as long as one search's"},
  "4K images with noise removal, `fast`": {"forward_4k_per_second": "{:.3g} per second"},
  "the paper's search, exact, extrapolated": {"paper_search_minutes": "{:.3g} minutes"},
  "compiling a search step": {"search_step_compile_seconds": "at most {:.3g} s"},
}


def device_records() -> list[dict[str, Any]]:
  """The records of devices, in alphabetical order of their files."""
  return [json.loads(path.read_text()) for path in sorted(RESULTS.glob("accelerator_*.json"))]


def device_table(records: Iterable[Mapping[str, Any]]) -> str:
  """The table in Markdown, one column for each record of an accelerator; without any, the sentence that says so."""
  devices = {}
  for record in records:
    figures = device_figures(record["results"], ("gpu", "tpu"))
    if figures and not record["settings"]["quick"]:
      devices[record["device"]] = figures
  if not devices:
    return _NO_RECORD
  lines = [["", *devices], ["---"] * (1 + len(devices))]
  for what, cells in _ROWS.items():
    of_device = [
      "; ".join(text.format(of[name]) for name, text in cells.items() if name in of) for of in devices.values()
    ]
    lines.append([what, *(cell or "not measured" for cell in of_device)])
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
  print(device_table(device_records()))
