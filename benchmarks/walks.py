"""How many files one meets when following a value through the package.

    python -m benchmarks.walks --json benchmarks/results/walks.json

- photograph: files with a function that takes the file's path or its pixels, entered while `ruas enhance` works on one
  photograph, from its command to its result.
- alpha: files with a function that takes alpha, entered while a search is made, run and derived.
- eta_t: files with a function that takes the loss options, alone or in the configuration, entered during a search.
- config: files whose code uses a variable named `config`.

The first three are counted while the commands run, by the functions that are called.
"""

import ast
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

import ruas_jax
from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax.commands.app import main as ruas

PACKAGE = pathlib.Path(ruas_jax.__file__).parent
_ALPHA = ("alpha", "all_alpha", "alphas")


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    pixels = np.random.default_rng(0).integers(0, 64, (32, 48, 3))
    for number in range(4):
      Image.fromarray((pixels + number).astype(np.uint8)).save(folder / f"{number}.png")
    enhance = ["enhance", str(folder / "0.png"), "--out", str(folder / "bright")]
    search = ["search", "--config", "tiny", "--data.train", str(folder), "--data.crop", "16", "--search.steps", "1"]
    search += ["--network.illumination.stages", "1", "--network.denoising.stages", "1"]
    found = {
      "photograph": files_entered(lambda: ruas(enhance), _takes_photograph),
      "alpha": files_entered(lambda: ruas([*search, "--workdir", str(folder / "a")]), _takes_alpha),
      "eta_t": files_entered(lambda: ruas([*search, "--workdir", str(folder / "b")]), _takes_eta_t),
      "config": files_that_use("config"),
    }
  print_table([{"walk": name, "count": len(files)} for name, files in found.items()])
  write_report(arguments.json, settings={}, results=found, bars={})


def files_entered(action: Callable[[], Any], counts: Callable[[dict[str, Any]], bool]) -> list[str]:
  """Files of the package with a function that was called with arguments for which `counts` is true."""
  found = set()

  def watch(frame, event, argument):
    name = frame.f_code.co_filename
    if event == "call" and name.startswith(str(PACKAGE)) and frame.f_code.co_name not in ("<module>", "__getattr__"):
      file = str(pathlib.Path(name).relative_to(PACKAGE))
      if file not in found:
        taken = frame.f_code.co_varnames[: frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount]
        if counts({each: frame.f_locals.get(each) for each in taken}):
          found.add(file)

  sys.setprofile(watch)
  try:
    action()
  finally:
    sys.setprofile(None)
  return sorted(found)


def _takes_photograph(values: dict[str, Any]) -> bool:
  return any(
    "0.png" in str(value) if isinstance(value, str | list | os.PathLike) else len(getattr(value, "shape", ())) >= 3
    for value in values.values()
  )


def _takes_alpha(values: dict[str, Any]) -> bool:
  return any(name in values for name in _ALPHA)


def _takes_eta_t(values: dict[str, Any]) -> bool:
  return any(hasattr(value, "eta_t") or hasattr(getattr(value, "loss", None), "eta_t") for value in values.values())


def files_that_use(name: str) -> list[str]:
  """Files of the package in whose code a variable of this name is read or written."""
  found = []
  for file in PACKAGE.rglob("*.py"):
    nodes = list(ast.walk(ast.parse(file.read_text())))
    used = {node.id for node in nodes if isinstance(node, ast.Name)} | {
      node.arg for node in nodes if isinstance(node, ast.arg)
    }
    if name in used:
      found.append(str(file.relative_to(PACKAGE)))
  return sorted(found)


if __name__ == "__main__":
  main()
