"""The house rules: imports go downward only, importing starts nothing, files stay short and say what they are for."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "ruas_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(file.relative_to(PACKAGE)) for file in FILES]

# Which rooms a room may import besides itself. A room is a folder or a file at the top of the package.
GROUND = {"errors", "files", "option_values", "srgb"}
CONFIGURED = ("loss_options", "options", "search_options")
SEARCHING = {*GROUND, "bilevel", "convolution", "engine", "nas", "optimizers"}
PHOTOGRAPHS = {*SEARCHING, "lowlight", "data"}
PRODUCT = {
  *PHOTOGRAPHS,
  *("config", "sweep", "plots", "photos", "video", "export", "evaluation", "hypergradient_study", "report"),
}
MAY_IMPORT = {
  "__init__": set(),
  "errors": set(),
  "files": {"errors"},
  "option_values": {"errors"},
  "srgb": set(),
  "optimizers": GROUND,
  "convolution": set(),  # arrays only
  "bilevel": set(),  # pytrees only: somebody who studies hypergradients can lift it out whole
  "engine": {*GROUND, "convolution", "__version__"},  # runs any step function
  "nas": {*GROUND, "bilevel", "engine", "optimizers"},  # searches any problem
  "lowlight": SEARCHING,
  "data": {*GROUND, "engine"},
  "search_spaces": PHOTOGRAPHS,  # the problems of the tables of `nas.benchmark`, which imports them by name
  "config": {*GROUND, "optimizers", *(f"lowlight.{name}" for name in CONFIGURED), "data.options"},
  "sweep": {*GROUND, "config", "nas.options"},
  "plots": {*GROUND, "lowlight", "engine"},
  "hypergradient_study": {*GROUND, "bilevel", "engine", "plots"},  # of any bilevel problem
  "photos": PHOTOGRAPHS,
  "video": {*PHOTOGRAPHS, "photos"},
  "export": {*GROUND, "convolution", "lowlight", "photos", "__version__"},
  "evaluation": {*PHOTOGRAPHS, "photos"},
  "report": {*GROUND, "lowlight", "engine", "plots"},  # of plain arrays and JSON values
  "experiments": {*PRODUCT, "__version__"},
  "commands": {*PRODUCT, "experiments", "__version__"},
  "__main__": {"commands"},
}


def room_of(path):
  """`lowlight/cell.py` and `ruas_jax.lowlight.cell` are in the room lowlight."""
  return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file):
  """Every module that a file imports, wherever in it, as dotted names."""
  found = set()
  for node in ast.walk(ast.parse(file.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{file}: relative import"
      found |= {f"{node.module}.{alias.name}" for alias in node.names}
  return found


def own_imports(file):
  return {name.removeprefix("ruas_jax.") for name in imports(file) if name.split(".")[0] == "ruas_jax"}


def allowed(room, imported):
  return any(imported == own or imported.startswith(f"{own}.") for own in MAY_IMPORT[room] | {room})


def test_every_room_is_in_the_table():
  assert {room_of(file) for file in FILES} <= set(MAY_IMPORT)


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_imports_go_downward_only(file):
  upward = sorted(name for name in own_imports(file) if not allowed(room_of(file), name))
  assert not upward, f"{room_of(file)} may not import {', '.join(upward)}"


def test_the_table_has_no_circle():
  above = {room: {name.split(".")[0] for name in below} - {room} for room, below in MAY_IMPORT.items()}
  while above:
    ground = {room for room, below in above.items() if not below & above.keys()}
    assert ground, f"a circle among {', '.join(sorted(above))}"
    above = {room: below for room, below in above.items() if room not in ground}


def test_files_import_in_no_circle():
  """Wherever in a file the import stands, but for those that type checkers alone see."""
  module = lambda file: ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
  modules = {module(file): file for file in FILES}
  found = {}
  for name, file in modules.items():
    imported = {other.rpartition(".")[0] if other not in modules else other for other in imports(file)}
    found[name] = (imported & modules.keys()) - {name}
  while found:
    ground = {name for name, below in found.items() if not below & found.keys()}
    assert ground, f"a circle among {', '.join(sorted(found))}"
    found = {name: below for name, below in found.items() if name not in ground}


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_flax_stays_in_lowlight(file):
  if room_of(file) != "lowlight":
    assert not {name for name in imports(file) if name.split(".")[0] == "flax"}


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_files_are_short_and_say_what_they_are_for(file):
  text = file.read_text()
  assert len(text.splitlines()) <= 450
  if text:  # an empty __init__.py says nothing
    assert ast.get_docstring(ast.parse(text))


def test_importing_starts_no_backend():
  """Nor any other work: not the slow readers of data either."""
  program = """
import sys, ruas_jax
from jax._src import xla_bridge
assert not xla_bridge._backends, "a backend was started"
heavy = [name for name in ("tensorflow", "tensorflow_datasets", "torch", "matplotlib.pyplot") if name in sys.modules]
assert not heavy, heavy
"""
  done = subprocess.run([sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
