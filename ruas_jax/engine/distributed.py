"""Running one program on several hosts, with `jax.distributed`."""

import re

import jax

from ruas_jax.errors import UserError

_ADDRESS = re.compile(r"(?P<address>[^,\s]+:\d+),(?P<hosts>\d+),(?P<number>\d+)")


def join(distributed: str) -> int:
  """Joins the other hosts of a run. Call it before the first computation.

  Args:
    distributed: `auto`, if the platform knows the hosts (TPU pods, Slurm), or `ADDRESS:PORT,HOSTS,NUMBER`: where the
      first host listens, the number of hosts, and the number of this host, counted from zero.

  Returns:
    The number of this host.

  Raises:
    UserError: `distributed` has another form, or the hosts do not find each other.
  """
  match = _ADDRESS.fullmatch(distributed)
  if distributed != "auto" and not match:
    raise UserError(f"`distributed` must be 'auto' or ADDRESS:PORT,HOSTS,NUMBER, not {distributed!r}")
  told = {}
  if match:
    hosts, number = int(match["hosts"]), int(match["number"])
    if number >= hosts:
      raise UserError(f"`distributed` {distributed}: the number of a host must be 0 to {hosts - 1}, not {number}")
    told = {"coordinator_address": match["address"], "num_processes": hosts, "process_id": number}
  try:
    jax.distributed.initialize(**told)
  except (RuntimeError, ValueError) as error:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    raise UserError(f"`distributed` {distributed}: {reason}") from None
  return jax.process_index()
