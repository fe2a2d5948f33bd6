"""Running one program on several hosts, with `jax.distributed`."""

import re

import jax

from ruas_jax.errors import UserError

_ADDRESS = re.compile(r"(?P<address>[^,\s]+:\d+),(?P<hosts>\d+),(?P<number>\d+)")


def join(address: str) -> int:
  """Joins the other hosts of a run. Call it before the first computation.

  Args:
    address: `auto`, if the platform knows the hosts (TPU pods, Slurm), or `ADDRESS:PORT,HOSTS,NUMBER`: where the first
      host listens, the number of hosts, and the number of this host, counted from zero.

  Returns:
    The number of this host.

  Raises:
    UserError: the address has another form, or the hosts do not find each other.
  """
  match = _ADDRESS.fullmatch(address)
  if address != "auto" and not match:
    raise UserError(f"--distributed must be `auto` or ADDRESS:PORT,HOSTS,NUMBER, not {address!r}")
  told = {}
  if match:
    hosts, number = int(match["hosts"]), int(match["number"])
    if number >= hosts:
      raise UserError(f"--distributed {address}: the number of a host must be 0 to {hosts - 1}, not {number}")
    told = {"coordinator_address": match["address"], "num_processes": hosts, "process_id": number}
  try:
    jax.distributed.initialize(**told)
  except (RuntimeError, ValueError) as error:
    raise UserError(f"--distributed {address}: {next(iter(str(error).splitlines()), type(error).__name__)}") from None
  return jax.process_index()
