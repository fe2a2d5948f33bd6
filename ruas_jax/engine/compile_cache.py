"""Keeps compiled programs on disk, so that the next run of the same search starts without compiling."""

import os
import pathlib

import jax

SWITCH = "RUAS_JAX_CACHE"
"""The environment's switch: "off" disables the cache."""
_LEAST_SECONDS = 0.0  # shortest compilation that is cached: there are many short ones
_LEAST_OPTION = "jax_persistent_cache_min_compile_time_secs"


def enable_compilation_cache() -> pathlib.Path | None:
  """Turns on jax's persistent compilation cache in the user's cache folder. Call it before anything is compiled.

  A folder that jax has already (`JAX_COMPILATION_CACHE_DIR`, or `jax.config`) is kept. Nothing changes if the
  environment has `RUAS_JAX_CACHE=off`, or if the folder cannot be written.

  Returns:
    The folder that this call set: `ruas_jax` in `$XDG_CACHE_HOME`, or else in `~/.cache`; None if it set none.
  """
  # jax adds its options at run time.
  folder = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
  if os.environ.get(SWITCH) == "off" or folder:
    return None
  try:
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = (base if base.is_absolute() else pathlib.Path.home() / ".cache") / "ruas_jax"
    folder.mkdir(parents=True, exist_ok=True)
  except (OSError, RuntimeError):  # RuntimeError: there is no home folder
    return None
  if not os.access(folder, os.W_OK | os.X_OK):
    return None
  jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
  if _LEAST_OPTION.upper() not in os.environ:
    jax.config.update(_LEAST_OPTION, _LEAST_SECONDS)
  return folder
