"""Where compiled programs are kept: each case in a process of its own, since jax chooses once."""

import os
import pathlib
import subprocess
import sys

import jax
import matplotlib
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = """
import jax
from ruas_jax import enable_compilation_cache
{before}
print(enable_compilation_cache())
print(jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs)
"""


def chosen(tmp_path, before="", **environment):
  """The lines that the program prints; `tmp_path` is its home."""
  own = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XDG_", "RUAS_"))}
  own |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | environment
  own["MPLCONFIGDIR"] = matplotlib.get_cachedir()  # else it gathers the fonts anew
  command = [sys.executable, "-W", "error", "-c", PROGRAM.format(before=before)]
  done = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
  assert done.stderr == ""
  return done.stdout.splitlines()


def test_the_cache_lies_with_the_users_other_caches(tmp_path):
  assert chosen(tmp_path) == [f"{tmp_path}/.cache/ruas_jax", f"{tmp_path}/.cache/ruas_jax 0.0"]
  assert (tmp_path / ".cache" / "ruas_jax").is_dir()
  assert chosen(tmp_path, XDG_CACHE_HOME=f"{tmp_path}/x")[0] == f"{tmp_path}/x/ruas_jax"
  least = chosen(tmp_path, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="7")
  assert least[1] == f"{tmp_path}/.cache/ruas_jax 7.0"


@pytest.mark.parametrize(
  "before, environment, folder",
  [
    ("", {"RUAS_JAX_CACHE": "off"}, "None"),
    ("", {"JAX_COMPILATION_CACHE_DIR": "/own"}, "/own"),
    ("jax.config.update('jax_compilation_cache_dir', '/given')", {}, "/given"),
    ("", {"XDG_CACHE_HOME": "/dev/null/x"}, "None"),  # no folder can be made there
  ],
)
def test_what_somebody_chose_stays_and_a_place_that_does_not_serve_is_left(before, environment, folder, tmp_path):
  assert chosen(tmp_path, before, **environment) == ["None", f"{folder} 1.0"]
  assert not list(tmp_path.rglob("ruas_jax"))


def test_the_command_line_turns_it_on(tmp_path, monkeypatch):
  """Before a command runs, and not for a mistake in the options."""
  from tiny_problem import ruas

  from ruas_jax.commands.demo import Demo
  from ruas_jax.engine import compile_cache

  calls = []
  monkeypatch.setattr(compile_cache, "enable_compilation_cache", lambda: calls.append("cache"))
  monkeypatch.setattr(Demo, "run", lambda self: calls.append("run"))
  assert ruas("demo") == 0 and calls == ["cache", "run"]
  assert ruas("demo", "--outt", "x") == 2 and ruas("demo", "--help") == 0 and len(calls) == 2


@pytest.mark.parametrize("command, most", [("search", 6), ("train --genotype published", 6)])
def test_a_run_compiles_few_programs(command, most, tmp_path, caplog):
  """Not one for every array that is copied, nor for every piece of a key."""
  from tiny_problem import CONFIG, dark_images, ruas, write_images

  folder = write_images(tmp_path / "images", dark_images(3))
  jax.clear_caches()
  with jax.log_compiles():
    options = f"--config {CONFIG} --data.train {folder} --workdir {tmp_path / 'run'}"
    assert ruas(*command.split(), *options.split()) == 0
  compiled = [record.getMessage().split(" with ")[0] for record in caplog.records if "Compiling jit(" in record.message]
  assert 1 <= len(compiled) <= most, compiled
