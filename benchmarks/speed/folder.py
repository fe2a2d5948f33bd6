"""A folder of photographs of 12 megapixels: the time of `ruas enhance` beside that of the computation alone.

    python -m benchmarks.speed.folder --json benchmarks/results/folder.json

The computation alone is the enhancer on decoded arrays that are in memory, one after the other. Both use the bundled
weights, in one process, and take turns: a folder of a few photographs, then the same ones in memory. So other work on
the machine changes both. A round's folder includes starting its program. The photographs are noisy JPEGs, made here.
"""

import os
import pathlib
import statistics
import tempfile
import time

import numpy as np
from PIL import Image

from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.speed.inference import as_float, dark_photo
from ruas_jax.engine.memory import keep_freed_memory

SIZE, COUNT, ROUNDS = (3000, 4000), 5, 4
QUICK_SIZE, QUICK_COUNT, QUICK_ROUNDS = (300, 400), 3, 2
QUALITY = 92  # about that of cameras


def write_folder(folder: pathlib.Path, count: int, size: tuple[int, int]) -> None:
  """JPEGs whose shapes and noise differ."""
  photo = dark_photo(*size)
  for number in range(count):
    Image.fromarray(np.roll(photo, 97 * number, axis=(0, 1))).save(folder / f"{number:02}.jpg", quality=QUALITY)


def measure(folder: pathlib.Path, rounds: int, jobs: int | None) -> list[dict]:
  """Seconds of each round: for the folder by `enhance_files`, and for the computation alone."""
  from ruas_jax.photos.enhance import enhance_files
  from ruas_jax.photos.enhancer import Enhancer
  from ruas_jax.photos.inputs import collect_inputs
  from ruas_jax.photos.pretrained import load_pretrained
  from ruas_jax.photos.reading import read_photo

  model = load_pretrained("general")
  inputs = collect_inputs([folder], folder / "bright")
  images = [as_float(read_photo(source).samples) for source, _ in inputs.files]
  enhancer, rows = Enhancer(model), []
  enhancer(images[0])  # compiles
  for number in range(rounds):
    start = time.perf_counter()
    done = enhance_files(model, inputs, jobs=jobs, overwrite=True)
    middle = time.perf_counter()
    for image in images:
      enhancer(image)
    stop = time.perf_counter()
    if len(done.written) != len(images):
      raise RuntimeError(f"not all were enhanced: {done.failures}")
    seconds, alone = middle - start, stop - middle
    rows.append({"round": number, "folder": seconds, "computation": alone, "times_computation": seconds / alone})
  return rows


def main() -> None:
  parser = argument_parser(__doc__)
  parser.add_argument("--jobs", type=int, default=None, help="as the option of `ruas enhance`")
  arguments = parser.parse_args()
  quick = arguments.quick
  size, count, rounds = (QUICK_SIZE, QUICK_COUNT, QUICK_ROUNDS) if quick else (SIZE, COUNT, ROUNDS)
  keep_freed_memory()  # as the command does
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    write_folder(folder, count, size)
    rows = measure(folder, rounds, arguments.jobs)
  print_table(rows, title=f"{count} photographs of {size[0] * size[1] / 1e6:g} megapixels, seconds")
  ratio = statistics.median(row["times_computation"] for row in rows)
  cores = len(os.sched_getaffinity(0))
  write_report(
    arguments.json,
    settings={"size": size, "count": count, "quality": QUALITY, "jobs": arguments.jobs, "cores": cores, "quick": quick},
    results={"rounds": rows, "median_times_computation": ratio},
    bars={"folder_times_computation": ratio},
  )


if __name__ == "__main__":
  main()
