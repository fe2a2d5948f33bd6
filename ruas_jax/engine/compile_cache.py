"""Programs that were compiled once are kept on disk, so that the next run of the same search starts at once."""

import os
import pathlib

import jax

_SWITCH = "RUAS_JAX_CACHE"  # "off" turns it off
_LEAST_SECONDS = 0.0  # of compilation, for which a program is kept: small ones are many
_LEAST_OPTION = "jax_persistent_cache_min_compile_time_secs"


def enable_compilation_cache() -> pathlib.Path | None:
  """Turns on jax's persistent compilation cache in the user's own cache folder; call it before anything is compiled.

  A folder that jax was given already (`JAX_COMPILATION_CACHE_DIR`, or `jax.config`) stays. The environment's
  `RUAS_JAX_CACHE=off` leaves all as it is, and so does a folder that cannot be written.

  Returns:
    The folder that this call chose: `ruas_jax` in `$XDG_CACHE_HOME`, or else in `~/.cache`; None if it chose none.
  """
  # jax adds its options at run time.
  folder = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
  if os.environ.get(_SWITCH) == "off" or folder:
    return None
  try:
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = (base if base.is_absolute() else pathlib.Path.home() / ".cache") / "ruas_jax"
    folder.mkdir(parents=True, exist_ok=True)
  except (OSError, RuntimeError):  # no home is a RuntimeError
    return None
  if not os.access(folder, os.W_OK | os.X_OK):
    return None
  jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
  if _LEAST_OPTION.upper() not in os.environ:
    jax.config.update(_LEAST_OPTION, _LEAST_SECONDS)
  return folder
