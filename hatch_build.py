"""Compiles the native convolution when the package is installed or a wheel is built.

Without a C++ compiler, or with `RUAS_JAX_NATIVE=off`, nothing is compiled and the installation succeeds all the same:
the package then runs XLA's own operations (`ruas_jax/convolution/native.py`).
"""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sysconfig

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FLAGS = ["-std=c++17", "-O3", "-fPIC", "-shared", "-ffp-contract=fast"]


class NativeConvolution(BuildHookInterface):
  PLUGIN_NAME = "custom"

  def initialize(self, version, build_data):
    if self.target_name != "wheel":
      return
    folder = pathlib.Path(self.root) / "ruas_jax" / "convolution" / "native"
    library = folder / "libruas_convolution.so"
    library.unlink(missing_ok=True)
    failure = _compile(folder / "convolution.cc", library)
    if failure:
      self.app.display_warning(f"ruas_jax: no native convolution, XLA's own operations are used: {failure}")
      return
    build_data["artifacts"].append(f"/{library.relative_to(self.root)}")
    build_data["pure_python"] = False
    build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def _compile(source: pathlib.Path, library: pathlib.Path) -> str | None:
  """Why there is no library, in words; None where it was made."""
  if os.environ.get("RUAS_JAX_NATIVE") == "off":
    return "RUAS_JAX_NATIVE=off"
  compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
  if compiler is None:
    return "there is no C++ compiler"
  headers = pathlib.Path(importlib.util.find_spec("jaxlib").origin).parent / "include"
  # A running process may have the library open: it keeps the file that it opened.
  new = library.with_suffix(".new")
  command = [*compiler.split(), *_FLAGS, "-isystem", str(headers), str(source), "-o", str(new)]
  try:
    subprocess.run(command, check=True, capture_output=True, text=True)
  except FileNotFoundError:
    return f"no compiler {compiler}"
  except subprocess.CalledProcessError as error:
    new.unlink(missing_ok=True)
    return f"{compiler} fails: {next(iter(error.stderr.splitlines()), 'no reason given')}"
  new.replace(library)
  return None
