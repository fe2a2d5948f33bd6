"""Inference of the published architecture: its speed, folders of many sizes, and windows against the whole image. Also
the time and memory of a large photograph by the bundled model `general`.

    python -m benchmarks.speed.inference --json benchmarks/results/inference.json [--torch]

The published architecture has random weights in the released form, because the cost does not depend on them. Memory is
measured in a separate process, as its peak resident size minus that after its imports (Linux). Freed memory is kept for
reuse, as `ruas enhance` does; the table of photographs also has rows without this.
"""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax.engine.memory import keep_freed_memory

Counterpart = Callable[..., Callable[[], object]]
"""The same forward pass in another framework: `(model, image float32 [H, W, 3]) -> function that computes it`."""

VARIANTS = ("i", "i+n")
DTYPES = ("float32", "bfloat16")
FORWARD = (400, 600)
FOLDER = [
  *((400, 600), (600, 400), (480, 640), (640, 480), (427, 640), (640, 427)),
  *((500, 375), (375, 500), (333, 500), (512, 512), (360, 640), (450, 600)),
]
PHOTO, WHOLE = (4000, 6000), (1500, 2000)
PHOTO_CASES = [
  *(("photo.jpg", "i", True), ("photo.jpg", "i+n", True), ("photo.png", "i+n", True)),
  *(("photo.jpg", "i", False), ("photo.jpg", "i+n", False)),
]
"""File, variant, and whether freed memory is kept."""
_MEGABYTE = 1e6
_AGREEMENT = 1e-4


@functools.cache
def random_model(variant: str):
  import jax

  from ruas_jax.lowlight.genotype import Genotype
  from ruas_jax.lowlight.network import build_network
  from ruas_jax.lowlight.options import RELEASED
  from ruas_jax.photos.model import Model

  genotype = Genotype.named("published")
  weights = jax.jit(build_network(RELEASED, genotype).init_weights)(jax.random.key(0))
  return Model(weights, genotype, RELEASED).with_variant(variant)


def dark_photo(height: int, width: int, seed: int = 0) -> np.ndarray:
  """uint8 [H, W, 3]: coarse shapes, a gradient and noise, dark."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 48, (-(-height // 50), -(-width // 50), 3)).repeat(50, 0).repeat(50, 1)[:height, :width]
  noise = rng.integers(0, 16, (height, width, 3), np.uint8)
  return coarse.astype(np.uint8) + noise + np.linspace(0, 16, width).astype(np.uint8)[:, None]


def as_float(photo: np.ndarray) -> np.ndarray:
  return photo.astype(np.float32) / 255


def forward_rows(
  repeats: int,
  counterpart: Counterpart | None = None,
  *,
  size: tuple[int, int] = FORWARD,
  variants: Sequence[str] = VARIANTS,
  dtypes: Sequence[str] = DTYPES,
  network: Mapping[str, Any] | None = None,
) -> list[dict]:
  """Seconds for one image in device memory, of the compiled forward pass only, compiled as in `Enhancer`. `network` has
  options of the network that replace the released ones."""
  image = as_float(dark_photo(*size))
  rows = []
  for variant in variants:
    model = random_model(variant)
    model = dataclasses.replace(model, options=dataclasses.replace(model.options, **network or {}))
    elsewhere = counterpart(model, image) if counterpart else None
    results = {}
    for dtype in dtypes:
      start = time.perf_counter()
      forward = compiled_forward(model, image, dtype)
      compiled = time.perf_counter()
      results[dtype] = np.asarray(forward(), np.float32)
      sides = {"ours": lambda: forward().block_until_ready()} | ({"elsewhere": elsewhere} if elsewhere else {})
      seconds = median_seconds(sides, repeats)
      rows.append(
        {
          "variant": variant,
          "dtype": dtype,
          "milliseconds": 1e3 * seconds["ours"],
          "images_per_second": 1 / seconds["ours"],
          "megapixels_per_second": image[..., 0].size / seconds["ours"] / 1e6,
          "compile_seconds": compiled - start,
          "largest_deviation": float(np.abs(results[dtype] - results["float32"]).max()),
          "mean_deviation": float(np.abs(results[dtype] - results["float32"]).mean()),
        }
      )
      if elsewhere:
        rows[-1] |= {
          "counterpart_milliseconds": 1e3 * seconds["elsewhere"],
          "times_faster": seconds["elsewhere"] / seconds["ours"],
        }
  return rows


def compiled_forward(model, image: np.ndarray, dtype: str = "float32") -> Callable[[], Any]:
  """The forward pass of a folded model for one image in device memory, compiled as in `Enhancer`."""
  import jax

  from ruas_jax.engine.compiler import compiler_options
  from ruas_jax.photos.model import enhance_folded, fold

  cast = lambda tree: jax.tree.map(lambda leaf: leaf.astype(dtype), tree)
  arguments = cast(fold(model)), cast(jax.numpy.asarray(image))
  compiled = jax.jit(enhance_folded, compiler_options=compiler_options()).lower(*arguments).compile()
  return lambda: compiled(*arguments)


def median_seconds(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
  """Median seconds of calls that take turns."""
  seconds = {name: [] for name in sides}
  for _ in range(repeats):
    for name, call in sides.items():
      start = time.perf_counter()
      call()
      seconds[name].append(time.perf_counter() - start)
  return {name: float(np.median(values)) for name, values in seconds.items()}


def folder_rows(copies: int) -> list[dict]:
  """A folder of many sizes, including compilation, with and without programs that several sizes share."""
  from ruas_jax.photos.enhancer import Enhancer

  class OwnShapes:
    def choose(self, height, width):
      return (height, width), False

  images = [as_float(dark_photo(*size)) for size in FOLDER] * copies
  rows = []
  for shared in (True, False):
    enhancer = Enhancer(random_model("i+n"))
    if not shared:
      enhancer.shapes = OwnShapes()
    start = time.perf_counter()
    for image in images:
      enhancer(image)
    seconds = time.perf_counter() - start
    rows.append(
      {"programs": "shared" if shared else "one per size", "images": len(images), "sizes": len(FOLDER)}
      | {"compiled": enhancer.compiled, "seconds": seconds}
    )
  return rows


def tile_rows(size: tuple[int, int]) -> list[dict]:
  """Windows compared with the whole image, everywhere and near its border."""
  from ruas_jax.photos.enhancer import Enhancer

  image, rows = as_float(dark_photo(*size)), []
  for variant in VARIANTS:
    model = random_model(variant)
    halo = model.network.reach(variant)
    whole = Enhancer(model, tile=max(size))(image)
    difference = np.abs(Enhancer(model)(image) - whole)
    border = difference.copy()
    border[halo:-halo, halo:-halo] = 0
    rows.append(
      {"variant": variant, "height": size[0], "width": size[1], "halo": halo}
      | {"largest_difference": float(difference.max()), "at_the_border": float(border.max())}
    )
  return rows


def photo_rows(size: tuple[int, int]) -> list[dict]:
  """Large photographs from file to file by the bundled model `general`, each in a new process; compiling included."""
  from PIL import Image

  rows = []
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    for suffix in (".jpg", ".png"):
      Image.fromarray(dark_photo(*size)).save(folder / f"photo{suffix}")
    for name, variant, keep in PHOTO_CASES:
      call = f"enhance_photo({str(folder / name)!r}, {variant!r}, {keep})"
      code = f"from benchmarks.speed.inference import enhance_photo; {call}"
      done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
      about = {"file": name, "variant": variant, "freed_memory": "kept" if keep else "returned"}
      rows.append(about | {"megapixels": size[0] * size[1] / 1e6} | json.loads(done.stdout))
  return rows


def enhance_photo(path: str, variant: str, keep: bool) -> None:
  """Runs in the new process. Prints seconds and peak memory as JSON."""
  import jax  # noqa: F401

  from ruas_jax.photos.enhance import enhance_files
  from ruas_jax.photos.inputs import collect_inputs
  from ruas_jax.photos.pretrained import load_pretrained

  if keep:
    keep_freed_memory()
  model, inputs = load_pretrained("general").with_variant(variant), collect_inputs([path], f"{path}.{variant}.out")
  imported = _resident("VmRSS")
  start = time.perf_counter()
  done = enhance_files(model, inputs, overwrite=True)
  assert not done.failures, done.failures
  seconds = time.perf_counter() - start
  print(json.dumps({"seconds": seconds, "peak_megabytes": (_resident("VmHWM") - imported) / _MEGABYTE}))


def _resident(field: str) -> int:
  """Memory of this process in bytes: now (VmRSS), or the maximum so far (VmHWM)."""
  status = pathlib.Path("/proc/self/status").read_text()
  return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))


def torch_forward(model, image: np.ndarray) -> Callable[[], object]:
  """The same forward pass in eager PyTorch, with our weights. Its result must agree with ours."""
  from benchmarks.speed import torch_counterpart
  from ruas_jax.photos.model import enhance

  weights, pixels = torch_counterpart.from_jax(model.weights), torch_counterpart.images_from_jax(image[None])
  forward = lambda: torch_counterpart.forward(weights, model.genotype, model.options.variant, pixels)
  difference = np.abs(forward()[0].numpy().transpose(1, 2, 0) - np.asarray(enhance(model, image))).max()
  if difference > _AGREEMENT:
    raise SystemExit(f"PyTorch's forward pass differs by {difference}")
  return forward


def main() -> None:
  parser = argument_parser(__doc__.split("\n")[0])
  parser.add_argument("--torch", action="store_true", help="compare with eager PyTorch (needs the extra `bench`)")
  arguments = parser.parse_args()
  counterpart = torch_forward if arguments.torch else None
  os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # compilation is measured; also for the new processes
  repeats, copies = (5, 1) if arguments.quick else (50, 2)
  photo, whole = ((1000, 1500), (1100, 1000)) if arguments.quick else (PHOTO, WHOLE)
  keep_freed_memory()
  tables = {
    "photo": (photo_rows(photo), "one photograph, file to file, and its memory"),
    "forward": (forward_rows(repeats, counterpart), f"forward pass at {FORWARD[1]}x{FORWARD[0]}"),
    "folder": (folder_rows(copies), "a folder of many sizes, compile time included"),
    "tiles": (tile_rows(whole), "windows against the whole image"),
  }
  for rows, title in tables.values():
    print_table(rows, title)
  bars = {
    "photo_peak_megabytes": max(row["peak_megabytes"] for row in tables["photo"][0]),
    "tiles_largest_difference": max(row["largest_difference"] for row in tables["tiles"][0]),
  }
  if counterpart:
    exact = [row for row in tables["forward"][0] if row["dtype"] == "float32"]
    bars |= {f"ruas_{row['variant']}_times_faster": row["times_faster"] for row in exact}
  write_report(
    arguments.json,
    settings={"repeats": repeats, "copies": copies, "photo": photo, "whole": whole, "quick": arguments.quick},
    results={name: rows for name, (rows, _) in tables.items()},
    bars=bars,
  )


if __name__ == "__main__":
  main()
