"""The one exception that a user's mistake raises; the command line prints its single line and exits non-zero."""

import math


class UserError(Exception):
  """Bad input: one clear line that names the file, option or step at fault."""


def require_at_least(least: float, options: object, section: str, *names: str, most: float | None = None) -> None:
  """Raises UserError for the first named option of `section` that is below `least`, above `most` or not finite."""
  for name in names:
    value = getattr(options, name)
    if not (value >= least and math.isfinite(value)):
      raise UserError(f"{section}.{name} must be at least {least} and finite, not {value}")
    if most is not None and value > most:
      raise UserError(f"{section}.{name} must be at most {most}, not {value}")
