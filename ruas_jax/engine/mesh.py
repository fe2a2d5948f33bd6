"""Where everything lies: one mesh of devices with the axes `population` and `data`.

The members of a population are shared out over the first axis and hear nothing of each other; the elements of every
batch are shared out over the second, where the partitioner puts the sums between devices. All else lies on every
device. One device, several, and several hosts, of which each sees the part of its own devices, are the same here.
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
  """Makes a CPU as many devices as this process has cores, so that members of a population run side by side.

  To be called before the first computation; afterwards it has no effect. Other platforms are left alone, and so is a
  number of devices that was set already, in XLA_FLAGS or as `jax_num_cpu_devices`.
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
  """A mesh, and what lies where on it.

  Attributes:
    mesh: `[population, data]` devices; of a run that is no population, `[1, data]`.
    everywhere: the sharding of what lies on every device.
    own: of what has a leading axis of members; without members, the same as `everywhere`.
    rows: of every batch, those whose devices this process has.
  """

  def __init__(self, options: MeshOptions = MeshOptions(), *, batch_size: int = 1, members: int | None = None):
    """Raises:
    UserError: there are fewer devices, or some of another host would be left out, or they do not divide the batch or
      the population.
    """
    # Those of a host are neighbours, whatever their own order: it reads one range of rows.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    things = members or 1
    population = options.population or _most_that_divide(things, len(devices) // options.data)
    if things % population:
      raise UserError(f"mesh.population {population} does not divide the population of {things}")
    if batch_size % options.data:
      raise UserError(f"mesh.data {options.data} does not divide data.batch_size {batch_size}")
    count = population * options.data
    if count > len(devices):
      raise UserError(f"mesh: {population} x {options.data} are {count} devices, and there are {len(devices)}")
    if jax.process_count() > 1 and count < len(devices):
      raise UserError(f"mesh: {population} x {options.data} leaves out some of {len(devices)} devices of several hosts")
    self.mesh = Mesh(np.array(devices[:count]).reshape(population, options.data), (POPULATION, DATA))
    self.everywhere = NamedSharding(self.mesh, PartitionSpec())
    self.own = NamedSharding(self.mesh, PartitionSpec(POPULATION)) if members else self.everywhere
    cut = NamedSharding(self.mesh, PartitionSpec(DATA)).addressable_devices_indices_map((batch_size,))
    places = {row for (piece,) in filter(None, cut.values()) for row in range(batch_size)[piece]}
    self.rows = range(min(places), max(places) + 1)

  def put(self, tree: Any, sharding: NamedSharding) -> Any:
    """Arrays that are the same in every process, onto the devices."""
    return jax.tree.map(lambda leaf: _put(leaf, sharding), tree)

  def put_batches(self, batches: Sequence[Any], axes: Sequence[int]) -> tuple:
    """Batches of which every process has its own rows, on these axes, onto the devices; those of one device are left
    where they are."""
    if self.mesh.shape[DATA] == 1:
      return tuple(batches)
    return tuple(
      jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(self._cut(axis), leaf), batch)
      for batch, axis in zip(batches, axes, strict=True)
    )

  def share_out(self, batches: Sequence[Any], axes: Sequence[int]) -> tuple:
    """Inside a program: batches whose rows, on these axes, are shared out."""
    if self.mesh.shape[DATA] == 1:
      return tuple(batches)
    mesh = jax.sharding.get_abstract_mesh()  # that of `over_members`, if this is inside it
    return tuple(
      lax.with_sharding_constraint(batch, self._cut(axis, None if mesh.empty else mesh))
      for batch, axis in zip(batches, axes, strict=True)
    )

  def over_members(self, function: Callable, *, takes: Sequence[int | None], gives: Sequence[int | None]) -> Callable:
    """`function` as each device sees it, with its own members only.

    Args:
      takes: for each argument the axis of its members; None where it has none.
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
    """Inside a program: what every process can read."""
    return lax.with_sharding_constraint(tree, self.everywhere) if jax.process_count() > 1 else tree

  def agree(self, most: int, wish: bool) -> tuple[int, bool]:
    """The least of all processes' numbers, and whether any of them wishes."""
    if jax.process_count() == 1:
      return most, wish
    all_of_them = multihost_utils.process_allgather(np.array([most, wish], np.int32))
    return int(all_of_them[:, 0].min()), bool(all_of_them[:, 1].any())

  def _cut(self, axis: int, mesh=None) -> NamedSharding:
    return NamedSharding(self.mesh if mesh is None else mesh, PartitionSpec(*[None] * axis, DATA))


def _most_that_divide(things: int, devices: int) -> int:
  return max((count for count in range(1, devices + 1) if things % count == 0), default=1)


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
  if jax.process_count() == 1:
    return jax.device_put(leaf, sharding)
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
  host = np.asarray(leaf)
  return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
