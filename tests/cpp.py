"""Compiling C++ in tests, as `hatch_build.py` does."""

import os
import shutil
import subprocess

SECONDS = 300


def compile_cpp(source, output, *flags):
  """Compiles `source` into `output`. Returns None, or what went wrong."""
  compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
  if compiler is None:
    return "there is no C++ compiler"
  command = [*compiler.split(), "-std=c++17", "-ffp-contract=fast", *flags, str(source), "-o", str(output)]
  try:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
  except FileNotFoundError:
    return f"no compiler {compiler}"
  return (done.stderr or "it gave no reason") if done.returncode else None
