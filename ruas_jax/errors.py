"""The one exception that a user's mistake raises; the command line prints its single line and exits non-zero."""


class UserError(Exception):
  """Bad input: one clear line that names the file, option or step at fault."""
