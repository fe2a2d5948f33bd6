"""The one exception that a user's mistake raises; the command line prints its single line and exits non-zero."""


class UserError(Exception):
  """Bad input: one clear line that names the file, option or step at fault."""


def require_at_least(least: float, options: object, section: str, *names: str) -> None:
  """Raises UserError for the first of the named options of `section` that lies below `least`."""
  for name in names:
    value = getattr(options, name)
    if not value >= least:
      raise UserError(f"{section}.{name} must be at least {least}, not {value}")
