"""Devices and the distribution of arrays over them: one mesh with the axes `population` and `data`.

The members of a population are divided over the first axis and do not communicate. The elements of every batch are
divided over the second axis, where the partitioner inserts the sums between devices. Everything else is replicated. The
same code runs on one device, on several, and on several hosts, each of which sees the part of its devices.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ruas_jax.engine.mesh_options import MeshOptions
from ruas_jax.errors import UserError

POPULATION, DATA = "population", "data"


def one_cpu_device_per_core() -> None:
  """Makes jax show one CPU device for each core of this process, so that members of a population run in parallel.

  Call it before the first computation; later it has no effect. It changes nothing on other platforms, or if the number
  of devices is set already, in XLA_FLAGS or as `jax_num_cpu_devices`.
  """
  flag = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
  # jax adds its options at run time.
  count = jax.config.jax_num_cpu_devices  # pyright: ignore[reportAttributeAccessIssue]
  if flag or count > 0:
    return
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
  with contextlib.suppress(RuntimeError):  # jax has started already
    jax.config.update("jax_num_cpu_devices", cores)


class Layout:
  """A mesh, and the distribution of arrays over it.

  Attributes:
    mesh: `[population, data]` devices; `[1, data]` for a run that is not a population.
    everywhere: sharding of arrays that are replicated on every device.
    per_member: sharding of arrays with a leading axis of members; without members, the same as `everywhere`.
    rows: the rows of every batch that belong to the devices of this process.
  """

  def __init__(self, options: MeshOptions = MeshOptions(), *, batch_size: int = 1, members: int | None = None):
    """Raises:
    UserError: there are too few devices; or devices of another host would not be used; or the numbers of devices do not
      divide the batch or the population.
    """
    # Sorted by host, because each host reads one contiguous range of rows.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    count_of_members = members or 1
    population = options.population or _most_that_divide(count_of_members, len(devices) // options.data)
    if count_of_members % population:
      raise UserError(
        f"`mesh.population` {population} does not divide the population of {count_of_members}; choose a divisor"
      )
    if batch_size % options.data:
      raise UserError(f"`mesh.data` {options.data} does not divide `data.batch_size` {batch_size}; choose a divisor")
    count = population * options.data
    asked = f"`mesh.population` {population} and `mesh.data` {options.data}"
    if count > len(devices):
      raise UserError(f"{asked} need {count} devices, but there are {len(devices)}")
    if jax.process_count() > 1 and count < len(devices):
      raise UserError(
        f"{asked} use {count} devices, but the hosts have {len(devices)}; choose a product of {len(devices)}"
      )
    self.mesh = Mesh(np.array(devices[:count]).reshape(population, options.data), (POPULATION, DATA))
    self.everywhere = NamedSharding(self.mesh, PartitionSpec())
    self.per_member = NamedSharding(self.mesh, PartitionSpec(POPULATION)) if members else self.everywhere
    cut = NamedSharding(self.mesh, PartitionSpec(DATA)).addressable_devices_indices_map((batch_size,))
    rows = {row for (piece,) in filter(None, cut.values()) for row in range(batch_size)[piece]}
    self.rows = range(min(rows), max(rows) + 1)

  def put(self, tree: Any, sharding: NamedSharding) -> Any:
    """Puts arrays that are the same in every process onto the devices."""
    return jax.tree.map(lambda leaf: _put(leaf, sharding), tree)

  def put_batches(self, batches: Sequence[Any], axes: Sequence[int]) -> tuple:
    """Puts batches onto the devices; every process gives its rows along these axes. With one data device, they are
    returned unchanged."""
    if self.mesh.shape[DATA] == 1:
      return tuple(batches)
    return tuple(
      jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(self._cut(axis), leaf), batch)
      for batch, axis in zip(batches, axes, strict=True)
    )

  def share_out(self, batches: Sequence[Any], axes: Sequence[int]) -> tuple:
    """Divides the rows of batches, along these axes, over the data devices. Use it inside a program."""
    if self.mesh.shape[DATA] == 1:
      return tuple(batches)
    mesh = jax.sharding.get_abstract_mesh()  # the mesh of `over_members`, if this is called inside it
    return tuple(
      lax.with_sharding_constraint(batch, self._cut(axis, None if mesh.empty else mesh))
      for batch, axis in zip(batches, axes, strict=True)
    )

  def over_members(self, function: Callable, *, takes: Sequence[int | None], gives: Sequence[int | None]) -> Callable:
    """Maps `function` over the devices, so that it sees only the members on its device.

    Args:
      takes: axis of the members in each argument; None: it has no such axis.
      gives: the same for each result.
    """

    def spec(axis):
      return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, POPULATION)

    # The data axis is left to the partitioner.
    named = {"axis_names": {POPULATION}, "check_vma": False}
    return jax.shard_map(
      function, mesh=self.mesh, in_specs=tuple(map(spec, takes)), out_specs=tuple(map(spec, gives)), **named
    )

  def readable(self, tree: Any) -> Any:
    """Replicates arrays so that every process can read them. Use it inside a program."""
    return lax.with_sharding_constraint(tree, self.everywhere) if jax.process_count() > 1 else tree

  def agree(self, most: int, wish: bool) -> tuple[int, bool]:
    """The smallest `most` of all processes, and whether `wish` is true in any of them."""
    if jax.process_count() == 1:
      return most, wish
    all_of_them = multihost_utils.process_allgather(np.array([most, wish], np.int32))
    return int(all_of_them[:, 0].min()), bool(all_of_them[:, 1].any())

  def _cut(self, axis: int, mesh=None) -> NamedSharding:
    return NamedSharding(self.mesh if mesh is None else mesh, PartitionSpec(*[None] * axis, DATA))


def map_members(function: Callable, *, in_axes: Sequence[int | None], at_once: bool | None = None) -> Callable:
  """`function` for all members on a device.

  Args:
    in_axes: for each argument, 0 if its leading axis is that of the members, or None if all members receive the same.
    at_once: whether the members are computed together. None: not on a CPU, whose small cache needs them one after the
      other.
  """
  if at_once is None:
    at_once = jax.default_backend() != "cpu"
  if at_once:
    return jax.vmap(function, in_axes=in_axes)

  def each(*arguments):
    def of_one(own):
      remaining = iter(own)
      return function(
        *(given if axis is None else next(remaining) for given, axis in zip(arguments, in_axes, strict=True))
      )

    return lax.map(of_one, [given for given, axis in zip(arguments, in_axes, strict=True) if axis is not None])

  return each


def _most_that_divide(things: int, devices: int) -> int:
  return max((count for count in range(1, devices + 1) if things % count == 0), default=1)


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
  if jax.process_count() == 1:
    return jax.device_put(leaf, sharding)
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
  host = np.asarray(leaf)
  return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
