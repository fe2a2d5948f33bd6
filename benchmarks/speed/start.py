"""Start times: importing, help, and enhancing a photograph with a filled compilation cache.

    python -m benchmarks.speed.start --json benchmarks/results/start.json

Every command is a separate process. They take turns, and each number is the median over the rounds, in seconds of wall
time. Each includes the time of an empty Python program, also that of `import jax`.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

from benchmarks.report import argument_parser, print_table, write_report

_HEIGHT, _WIDTH = 1000, 1500
_RUAS = ("-c", "from ruas_jax.commands.app import main; main()")


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  rounds = 1 if arguments.quick else 9
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    photo = dark_photograph(folder / "photo.jpg")
    commands = {
      "nothing": ("-c", "pass"),
      "import jax": ("-c", "import jax"),
      "import ruas_jax": ("-c", "import ruas_jax"),
      "import ruas_jax.bilevel": ("-c", "import ruas_jax.bilevel"),
      "import ruas_jax.nas": ("-c", "from ruas_jax import nas; nas.search"),
      "ruas --help": (*_RUAS, "--help"),
      "ruas search --help": (*_RUAS, "search", "--help"),
      "ruas enhance": (*_RUAS, "enhance", str(photo), "--out", str(folder / "bright"), "--overwrite"),
    }
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # as `ruas` sets it
    empty_cache = _seconds(commands["ruas enhance"], environment)
    seconds = {name: [] for name in commands}
    for _ in range(rounds):
      for name, command in commands.items():
        seconds[name].append(_seconds(command, environment))
  median = {name: statistics.median(times) for name, times in seconds.items()}
  rows = [
    {"command": name, "median": median[name], "least": min(times), "most": max(times)}
    for name, times in seconds.items()
  ]
  print_table(rows, "seconds")
  write_report(
    arguments.json,
    settings={"quick": arguments.quick, "rounds": rounds, "photograph": [_HEIGHT, _WIDTH]},
    results={"seconds": rows, "ruas enhance, cache empty": empty_cache},
    bars={
      "help_over_import_jax": median["ruas --help"] / median["import jax"],
      "import_seconds": median["import ruas_jax"] - median["nothing"],
      "enhance_seconds_beside_import_jax": median["ruas enhance"] - median["import jax"],
    },
  )


def dark_photograph(path: pathlib.Path) -> pathlib.Path:
  """A JPEG of 1.5 megapixels: smooth shapes and noise, with a quarter of the full brightness at most."""
  rng = np.random.default_rng(0)
  coarse = Image.fromarray(rng.integers(0, 64, (10, 15, 3)).astype(np.uint8))
  smooth = np.asarray(coarse.resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC), np.float32)
  noisy = np.clip(smooth + rng.normal(0, 2, smooth.shape), 0, 255)
  Image.fromarray(noisy.astype(np.uint8)).save(path, quality=92)
  return path


def _seconds(command: tuple[str, ...], environment: dict[str, str]) -> float:
  start = time.perf_counter()
  subprocess.run([sys.executable, *command], env=environment, check=True, stdout=subprocess.DEVNULL)
  return time.perf_counter() - start


if __name__ == "__main__":
  main()
