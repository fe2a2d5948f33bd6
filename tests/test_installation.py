"""A wheel that is built without a C++ compiler: it installs, and the package runs XLA's form and says why."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

for needed in ("hatchling", "pip"):
  pytest.importorskip(needed, reason=f"needs {needed}, which the extra `test` or the environment installs")

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILT_FROM = ("ruas_jax", "configs", "hatch_build.py", "pyproject.toml", "README.md", "LICENSE")

CONVOLVE = """
import jax.numpy as jnp, ruas_jax
from ruas_jax.convolution.primitives import convolve, square_taps
print(ruas_jax.__file__)
print(convolve(jnp.ones((1, 1, 1, 1)), jnp.full((9, 1, 1), 3.0), square_taps(3)))
"""


def run(*arguments, folder, **environment):
  """What the program prints on both of its streams."""
  done = subprocess.run(
    arguments, cwd=folder, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )
  assert done.returncode == 0, done.stdout
  return done.stdout


@pytest.mark.parametrize(
  ("compiler", "reason"), [("", "there is no C++ compiler"), ("no-such-compiler", "no compiler no-such-compiler")]
)
def test_without_a_compiler_the_package_installs_and_runs(compiler, reason, tmp_path):
  project, wheels, installed, empty = (tmp_path / name for name in ("project", "wheels", "installed", "empty"))
  for folder in (project, wheels, empty):
    folder.mkdir()
  for name in BUILT_FROM:  # a copy, since a build replaces the library
    if (ROOT / name).is_dir():
      shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    else:
      shutil.copy(ROOT / name, project / name)

  build = f"from hatchling.build import build_wheel; build_wheel({str(wheels)!r})"
  said = run(sys.executable, "-c", build, folder=project, PATH=str(empty), CXX=compiler, RUAS_JAX_NATIVE="")
  assert f"no native convolution, XLA's own operations are used: {reason}" in said
  (wheel,) = wheels.iterdir()
  assert wheel.name.endswith("-py3-none-any.whl")

  pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(installed))
  run(*pip, str(wheel), folder=empty)
  tables = installed / "ruas_jax" / "nas" / "benchmark" / "tables"
  assert {path.name for path in tables.iterdir()} == {"denoising.npz", "digits.npz"}
  environment = {"PYTHONPATH": str(installed), "RUAS_JAX_NATIVE": ""}
  information = run(sys.executable, "-m", "ruas_jax", "info", folder=empty, **environment)
  line = "convolution   XLA (not built: at installation there was no C++ compiler, or it failed)"
  assert line in information.splitlines()
  assert run(sys.executable, "-c", CONVOLVE, folder=empty, **environment).splitlines() == [
    str(installed / "ruas_jax" / "__init__.py"),
    "[[[[3.]]]]",
  ]
