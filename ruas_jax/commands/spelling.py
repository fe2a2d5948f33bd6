"""Names of options in messages, as they are written on the command line."""

import re

from ruas_jax.option_values import paths


def spell_options(message: str, command: type) -> str:
  """The message with each name in backticks that is an option of this command as that option: `out` becomes --out."""
  options = {path: f"--{path.replace('_', '-')}" for path in paths(command)}
  return re.sub(r"`([\w.]+)`", lambda name: options.get(name[1], name[0]), message)
