"""Where a program's members live: one mesh over the devices, with the axis `population`."""

import contextlib
import os

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

POPULATION = "population"


def one_cpu_device_per_core() -> None:
  """Makes a CPU as many devices as this process has cores, so that members of a population run side by side.

  To be called before the first computation; afterwards it has no effect. Other platforms are left alone.
  """
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
  with contextlib.suppress(RuntimeError):  # jax has started already
    jax.config.update("jax_num_cpu_devices", cores)


def population_mesh(members: int) -> Mesh:
  """The most devices that members can be shared out over evenly."""
  devices = jax.local_devices()
  count = max(count for count in range(1, len(devices) + 1) if members % count == 0)
  return Mesh(devices[:count], (POPULATION,))


def on_mesh(tree, mesh: Mesh, *axes: str | None):
  """The arrays on the mesh's devices, cut along the named axes; with none named, all of them on every device."""
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*axes)))
