"""What a user of the command line waits for: the first step of a run, and its end.

    python -m benchmarks.speed.first_step --json benchmarks/results/first_step.json

Every command is a process of its own, once with an empty compilation cache and then with the cache that it filled. The
first step is over when the command prints its first line of progress. Runs are short: what follows the first step is
known from the time of a step.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.speed.start import dark_photograph

_RUAS = (sys.executable, "-u", "-c", "from ruas_jax.commands.app import main; main()")
_STEPS = 20


class Waited(NamedTuple):
  """Seconds from the start of a command to its first line of progress, and to its end."""

  first: float
  end: float


def main() -> None:
  parser = argument_parser(__doc__.split("\n")[0])
  parser.add_argument("--demo", action="store_true", help="run the demo too, which takes minutes")
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    commands = _commands(folder, demo=arguments.demo, quick=arguments.quick)
    rows = [row for command in commands for row in measure(folder, *command)]
  print_table(rows, "seconds from the start of the command")
  found = {(row["command"], row["cache"]): row for row in rows}
  bars = {}
  if not arguments.quick:
    for command, column in (("search tiny", "first_step"), ("search lol", "first_step"), ("train", "first_step")):
      for cache in ("empty", "filled"):
        bars[f"{command.replace(' ', '_')}_{cache}_seconds"] = found[command, cache][column]
    if arguments.demo:
      bars["demo_after_installation_seconds"] = found["demo", "empty"]["end"]
  write_report(
    arguments.json, settings={"quick": arguments.quick, "steps": _STEPS}, results={"seconds": rows}, bars=bars
  )


def _commands(folder: pathlib.Path, *, demo: bool, quick: bool) -> list[tuple[str, tuple[str, ...]]]:
  """Their names and arguments; `WORKDIR` stands for a new folder."""
  search = ("--search.steps", str(_STEPS), "--workdir", "WORKDIR")
  train = ("--genotype", "published", "--training.steps", str(_STEPS), "--workdir", "WORKDIR")
  photo = dark_photograph(folder / "photo.jpg")
  commands = [
    ("search tiny", ("search", "--config", "tiny", *search)),
    ("search lol", ("search", "--config", "lol", "--data.train", "builtin", *search)),
    ("train", ("train", "--config", "tiny", *train)),
    ("enhance", ("enhance", str(photo), "--out", "WORKDIR")),
  ]
  if quick:
    one_stage = ("--network.illumination.stages", "1", "--network.denoising.stages", "1", "--data.crop", "16")
    commands = [("train", (*commands[2][1], *one_stage))]
  return [*commands, ("demo", ("demo", "--out", "WORKDIR"))] if demo else commands


def measure(folder: pathlib.Path, name: str, arguments: tuple[str, ...]) -> list[dict[str, Any]]:
  """Rows of a command with an empty cache and with the cache that the first run filled."""
  rows = []
  for cache in ("empty", "filled"):
    workdir = folder / f"{name} {cache}"
    waited = _run([str(workdir) if word == "WORKDIR" else word for word in arguments], folder / f"{name} cache")
    rows.append({"command": name, "cache": cache, "first_step": waited.first, "end": waited.end})
  return rows


def _run(arguments: list[str], cache: pathlib.Path) -> Waited:
  environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
  environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # as `ruas` itself has it
  start, first = time.perf_counter(), None
  process = subprocess.Popen([*_RUAS, *arguments], env=environment, stdout=subprocess.PIPE, text=True)
  for line in process.stdout:
    if first is None and "/" in line:  # `search 1/20 ...`
      first = time.perf_counter() - start
  end = time.perf_counter()
  if process.wait():
    raise RuntimeError(f"{' '.join(arguments)} fails with exit code {process.returncode}")
  return Waited(end - start if first is None else first, end - start)


if __name__ == "__main__":
  main()
