"""Several hosts as one machine, by `jax.distributed`."""

import re

import jax

from ruas_jax.errors import UserError

_PLACE = re.compile(r"(?P<address>[^,\s]+:\d+),(?P<hosts>\d+),(?P<number>\d+)")


def join(place: str) -> int:
  """Makes this process one of several; to be called before the first computation.

  Args:
    place: `auto`, where the platform tells (TPU pods, Slurm and the like), or `ADDRESS:PORT,HOSTS,NUMBER`: where the
      first host listens, how many there are, and which one this is, counted from zero.

  Returns:
    The number of this host.

  Raises:
    UserError: it has another form, or the hosts do not find each other.
  """
  match = _PLACE.fullmatch(place)
  if place != "auto" and not match:
    raise UserError(f"--distributed takes `auto` or ADDRESS:PORT,HOSTS,NUMBER, not {place!r}")
  told = {}
  if match:
    hosts, number = int(match["hosts"]), int(match["number"])
    if number >= hosts:
      raise UserError(f"--distributed {place}: of {hosts} hosts the last one has the number {hosts - 1}")
    told = {"coordinator_address": match["address"], "num_processes": hosts, "process_id": number}
  try:
    jax.distributed.initialize(**told)
  except (RuntimeError, ValueError) as error:
    raise UserError(f"--distributed {place}: {next(iter(str(error).splitlines()), type(error).__name__)}") from None
  return jax.process_index()
