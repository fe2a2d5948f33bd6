"""How long it takes to write a photograph in each format.

    python -m benchmarks.speed.formats --json benchmarks/results/formats.json

The photograph is `coffee` of scikit-image, twice in each direction: 0.96 megapixels of 8 bits. Each format has its
default quality. The formats take turns. The times are medians over the rounds, divided by the megapixels: of the clock,
and of all cores together.
"""

import pathlib
import statistics
import tempfile
import time

import numpy as np
from PIL import Image
from skimage.data import coffee

from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax.data.formats import PHOTO_FORMATS
from ruas_jax.photos.extras import missing
from ruas_jax.photos.reading import read_photo
from ruas_jax.photos.writing import write_photo


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  rounds = 1 if arguments.quick else 7
  suffixes = {format: suffix for suffix, format in PHOTO_FORMATS.items() if not missing(format)}
  times = {format: ([], []) for format in suffixes}
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    Image.fromarray(np.tile(coffee(), (2, 2, 1))).save(folder / "photo.bmp")
    photo = read_photo(folder / "photo.bmp")
    megapixels = photo.samples.shape[0] * photo.samples.shape[1] / 1e6
    for _ in range(rounds):
      for format, suffix in suffixes.items():
        out = folder / f"result{suffix}"
        began = time.perf_counter(), time.process_time()
        write_photo(out, photo.samples, photo, format=format, overwrite=True)
        for all_of, now, start in zip(times[format], (time.perf_counter(), time.process_time()), began, strict=True):
          all_of.append((now - start) / megapixels)
    sizes = {format: (folder / f"result{suffix}").stat().st_size / megapixels for format, suffix in suffixes.items()}
  rows = [
    {
      "format": format,
      "seconds": statistics.median(wall),
      "processor seconds": statistics.median(processor),
      "megabytes": sizes[format] / 1e6,
    }
    for format, (wall, processor) in times.items()
  ]
  print_table(rows, "for a megapixel")
  settings = {"quick": arguments.quick, "rounds": rounds, "megapixels": megapixels}
  write_report(arguments.json, settings=settings, results={"rows": rows}, bars={})


if __name__ == "__main__":
  main()
