"""The exception for a user's mistake. The command line prints its message and exits with an error code."""

import math


class UserError(Exception):
  """A mistake in the input. The message is one line that names the file, option or step.

  An argument or option is written in backticks and with its path: `workdir`, `loss.eta_t`. Nothing else is. The
  command line prints it as its option: --workdir, --loss.eta-t.
  """


def require_at_least(least: float, options: object, section: str, *names: str, most: float | None = None) -> None:
  """Raises UserError for the first option in `names` that is below `least`, above `most` or not finite."""
  for name in names:
    value = getattr(options, name)
    if not (value >= least and math.isfinite(value)):
      raise UserError(f"`{section}.{name}` must be at least {least} and finite, not {value}")
    if most is not None and value > most:
      raise UserError(f"`{section}.{name}` must be at most {most}, not {value}")
