"""Table 2: parameters, operations and seconds at 600x400 pixels of our networks and the released one.

    python -m benchmarks.paper.table2 --json benchmarks/results/table2.json

The released network has random weights, because the cost does not depend on them. Seconds are the median of the
compiled forward pass only, on this device, with image and result in its memory. All rows take turns. Freed memory is
kept for reuse, as `ruas enhance` does.
"""

import numpy as np

from benchmarks.paper import published
from benchmarks.paper.setting import paper_parser
from benchmarks.paper.table1 import VARIANTS
from benchmarks.report import print_table, write_report
from benchmarks.speed.inference import as_float, compiled_forward, dark_photo, median_seconds, random_model
from ruas_jax.engine.memory import keep_freed_memory
from ruas_jax.evaluation.evaluate import MACS_SIZE
from ruas_jax.photos.model import Model
from ruas_jax.photos.pretrained import load_pretrained

_REPEATS, _QUICK_REPEATS = 50, 2


def main(arguments: list[str] | None = None) -> None:
  options = paper_parser(__doc__.split("\n")[0], picture=False).parse_args(arguments)
  repeats = _QUICK_REPEATS if options.quick else _REPEATS
  models = {
    ("ours", weights): load_pretrained(weights) for weights in ("lol", "general")
  } | {("released", None): random_model("i+n")}  # fmt: skip
  rows, calls = [], {}
  for (network, weights), whole in models.items():
    for variant in VARIANTS:
      model = whole.with_variant(variant)
      name = f"{network} {variant}"
      rows.append(
        {"method": name, "weights": weights, "parameters": model.parameters(), "macs": model.macs(*MACS_SIZE)}
      )
      calls[name, weights] = _forward(model)
  for row, seconds in zip(rows, median_seconds(calls, repeats).values(), strict=True):
    row["seconds"] = seconds
  print_table([_shown(row) for row in rows], f"{MACS_SIZE[1]}x{MACS_SIZE[0]} pixels, on this device")
  quoted = published.TABLE_2
  print_table([{"method": name} | row for name, row in quoted["methods"].items()], f"Quoted: {quoted['source']}")
  write_report(
    options.json,
    settings={"quick": options.quick, "repeats": repeats, "height": MACS_SIZE[0], "width": MACS_SIZE[1]},
    results={"rows": rows, "published": {"Table 2": quoted}},
    bars={},
  )


def _forward(model: Model):
  """A function that calls the compiled forward pass, which has run once."""
  forward = compiled_forward(model, as_float(dark_photo(*MACS_SIZE)))
  call = lambda: forward().block_until_ready()
  assert np.isfinite(call()).all()
  return call


def _shown(row: dict) -> dict:
  return {
    "method": row["method"],
    "weights": row["weights"] or "random",
    "parameters (K)": row["parameters"] / 1e3,
    "operations (G)": row["macs"] / 1e9,
    "milliseconds": 1e3 * row["seconds"],
  }


if __name__ == "__main__":
  keep_freed_memory()
  main()
