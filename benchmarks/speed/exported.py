"""Exported models: how far their results are from ours, the sizes of the files, and onnxruntime's speed beside ours.

    chrt -r 1 python -m benchmarks.speed.exported --json benchmarks/results/exported.json

Large photographs are computed in the same windows by both. Freed memory is kept for reuse, as `ruas enhance` does.
"""

import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np
import onnxruntime

from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.speed.inference import as_float, dark_photo
from ruas_jax.engine.memory import keep_freed_memory
from ruas_jax.export.files import LICENCES, export_model
from ruas_jax.photos.enhancer import Enhancer, Plan
from ruas_jax.photos.pretrained import load_pretrained

SIZES = ((400, 600), (3000, 4000))
VARIANTS = ("i", "i+n")


def difference_rows(folder: pathlib.Path) -> list[dict]:
  """Each bundled model, variant and format: the file's size, and the largest difference at each size."""
  rows = []
  for name, licence in LICENCES.items():
    for variant in VARIANTS:
      for ending in ("onnx", "stablehlo"):
        model, path = load_pretrained(name).with_variant(variant), folder / f"model.{ending}"
        done = export_model(path, model, name=name, licence=licence, overwrite=True)
        row = {"weights": name, "variant": variant, "format": ending, "kilobytes": done.size / 1000}
        for one in done.differences:
          size = f"{one.width}x{one.height}"
          row[size] = max(row.get(size, 0.0), one.largest)
        rows.append(row)
  return rows


def speed_rows(folder: pathlib.Path, sizes, repeats: int) -> list[dict]:
  """The general model: seconds for one image, by onnxruntime and by us in turns, and how far they differ."""
  rows = []
  for variant in VARIANTS:
    model, path = load_pretrained("general").with_variant(variant), folder / "windows.onnx"
    export_model(path, model, name="general", licence=LICENCES["general"], windows=True, overwrite=True)
    for height, width in sizes:
      image = as_float(dark_photo(height, width))
      plans = {"ours": Enhancer(model).plan(height, width)}
      plans["onnxruntime"] = plans["ours"]._replace(program=program_of(path))
      results, seconds = {}, {name: [] for name in plans}
      for _ in range(1 + (repeats if height * width < 1e6 else 1)):
        for name, plan in plans.items():
          start = time.perf_counter()
          results[name] = whole(plan, image)
          seconds[name].append(time.perf_counter() - start)
      row = {"variant": variant, "height": height, "width": width}
      row |= {f"{name}_seconds": float(np.median(times[1:])) for name, times in seconds.items()}
      difference = float(np.abs(results["ours"] - results["onnxruntime"]).max())
      rows.append(row | {"times_ours": row["onnxruntime_seconds"] / row["ours_seconds"], "difference": difference})
  return rows


def program_of(path: pathlib.Path) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
  """The program of an exported file, as `Plan` calls one."""
  session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
  return lambda window, _, mean: np.asarray(session.run(["result"], {"image": window[None], "mean": mean})[0])[0]


def whole(plan: Plan, image: np.ndarray) -> np.ndarray:
  result = np.empty_like(image)
  for part in plan.parts(lambda rows, columns: image[rows, columns]):
    result[part.rows, part.columns] = part.values
  return result


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  sizes, repeats = (SIZES[:1], 2) if arguments.quick else (SIZES, 10)
  keep_freed_memory()
  with tempfile.TemporaryDirectory() as folder:
    speed = speed_rows(pathlib.Path(folder), sizes, repeats)
    differences = difference_rows(pathlib.Path(folder))
  print_table(differences, "largest difference from this package's results")
  print_table(speed, "one image, onnxruntime beside this package")
  largest = [value for row in differences for name, value in row.items() if "x" in name and isinstance(value, float)]
  write_report(
    arguments.json,
    settings={
      "sizes": sizes,
      "repeats": repeats,
      "quick": arguments.quick,
      "onnxruntime": onnxruntime.__version__,
    },
    results={"differences": differences, "speed": speed},
    bars={
      "exported_difference": max(*largest, *(row["difference"] for row in speed)),
      "exported_kilobytes": max(row["kilobytes"] for row in differences),
    },
  )


if __name__ == "__main__":
  main()
