"""What is imported when: the package and its help import no more than they need. Each case is a process of its own."""

import pathlib
import re
import subprocess
import sys

import pytest

import ruas_jax

PACKAGE = pathlib.Path(ruas_jax.__file__).parent
COMMANDS = ["search", "train", "enhance", "evaluate", "import", "export", "demo", "hypergrad", "latency", "info"]
SLOW_TO_IMPORT = [
  "jax",
  "flax",
  "optax",
  "orbax",
  "grain",
  "chex",
  "numpy",
  "scipy",
  "skimage",
  "PIL",
  "matplotlib",
  "rich",
  "tensorflow_datasets",
]


def modules_after(program):
  """The top-level names and the ruas_jax modules that are imported once the program has run."""
  printed = f"{program}\nimport sys\nprint(*sys.modules, file=sys.stderr)"
  done = subprocess.run([sys.executable, "-c", printed], cwd=PACKAGE.parent, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  modules = done.stderr.split()
  return {name.split(".")[0] for name in modules} | {name for name in modules if name.startswith("ruas_jax")}


def test_importing_the_package_imports_nothing_else():
  modules = modules_after("import ruas_jax")
  assert not modules & set(SLOW_TO_IMPORT)
  assert {name for name in modules if name.startswith("ruas_jax")} == {"ruas_jax"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)])
def test_help_imports_neither_jax_nor_anything_slow(arguments):
  modules = modules_after(f"""
from ruas_jax.commands.app import main
try:
  main({arguments})
except SystemExit as end:
  assert not end.code
""")
  assert not modules & set(SLOW_TO_IMPORT)


def test_nas_imports_nothing_of_ruas():
  modules = modules_after("from ruas_jax import nas\nnas.search, nas.search_population, nas.SearchProblem")
  assert not modules & {"flax", "orbax", "grain", "skimage", "PIL", "matplotlib", "rich", "tensorflow_datasets"}
  rooms = {name.split(".")[1] for name in modules if name.startswith("ruas_jax.")}
  assert rooms == {"bilevel", "convolution", "engine", "errors", "files", "nas", "option_values", "optimizers"}


def test_bilevel_imports_jax_and_optax_only():
  modules = modules_after("import ruas_jax.bilevel")
  assert {"jax", "optax"} <= modules
  alone = modules_after("import jax, optax, lazy_loader")
  own = {name for name in modules if name.startswith("ruas_jax")}
  assert modules - own <= alone | {"packaging"}
  assert all(name == "ruas_jax" or name.startswith("ruas_jax.bilevel") for name in own)


def test_every_public_name_is_found_and_listed():
  stub = (PACKAGE / "__init__.pyi").read_text()
  named = set(re.findall(r"import (\w+) as \1\n", stub))
  assert named == set(ruas_jax.__all__) <= set(dir(ruas_jax))
  assert len(named) == stub.count(" import ")
  for name in named:
    assert getattr(ruas_jax, name) is not None
  with pytest.raises(AttributeError, match="no_such_name"):
    ruas_jax.no_such_name  # noqa: B018


def test_a_public_module_is_found_before_anything_imports_it():
  assert "ruas_jax.lowlight.losses" in modules_after("import ruas_jax; ruas_jax.losses.fidelity")


def test_a_public_name_is_what_its_file_defines():
  import ruas_jax.photos.enhance  # a module of the same name must not take its place
  from ruas_jax.photos.model import enhance

  assert ruas_jax.enhance is enhance


def test_the_package_says_its_version_and_that_it_is_typed(capsys):
  from ruas_jax.commands.app import main

  with pytest.raises(SystemExit) as end:
    main(["--version"])
  assert not end.value.code
  assert capsys.readouterr().out == f"ruas_jax {ruas_jax.__version__}\n"
  assert re.fullmatch(r"\d+\.\d+\.\d+", ruas_jax.__version__)
  assert (PACKAGE / "py.typed").exists()


def test_info_says_what_is_there(capsys):
  import jax
  from tiny_problem import ruas

  assert ruas("info") == 0
  lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
  assert lines["ruas_jax"] == ruas_jax.__version__ and lines["jax"] == jax.__version__
  assert lines["devices"].startswith("cpu 0")
  assert lines["cache"] == jax.config.jax_compilation_cache_dir
  for extra in ("tensorboard installed", "photos ", "export ", "tpu "):
    assert extra in lines["extras"]
