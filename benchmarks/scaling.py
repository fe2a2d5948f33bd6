"""The cost model against what XLA counts for the compiled programs, on 1, 2, 4 and 8 virtual CPU devices.

python -m benchmarks.scaling --json benchmarks/results/scaling.json [--tpu]

Virtual devices share the machine's cores, so nothing is timed: the figures are the work of one device, as the compiler
counts it in the program that one device runs, and the operands of the operations that devices exchange numbers by.

XLA counts the body of a loop once. So the loop over a module's stages is written out for these programs, and the loop
over the members of a device is multiplied by their number. The loop over steps counts once: one step.

With `--tpu`, the round of configs/lol.py is also compiled for a TPU v5e that is only described (the extra `tpu` brings
the compiler; no chip is needed), for one search and for several at once. What that compiler expects is an estimate, no
measurement.
"""

import contextlib
import dataclasses
import functools
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from benchmarks.cost_model import TRAINING_PASSES, V5E, Cost, cost, forward_convolutions, round_passes
from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.search_step import dark_images
from ruas_jax.architecture_search.step import batches_per_round, make_search_step
from ruas_jax.config import Config, load_config
from ruas_jax.data.feed import Feed, PopulationFeed, Reading, open_feed
from ruas_jax.objectives import make_objectives
from ruas_jax.optimizers import make_optimizer
from ruas_jax.retinex.network import build_network
from ruas_jax.runner.device_loop import Run, make_program
from ruas_jax.runner.setting import describe, readings_of
from ruas_jax.runtime.mesh import Layout, MeshOptions
from ruas_jax.search_space.genotype import Genotype
from ruas_jax.training import init_train_state, make_train_step

DEVICES = 8
CROP = 64
TPU_MEMBERS = (1, 8)
GENOTYPE = Genotype.named("published")

# No chip is there to be asked, and nobody on the network: all that the TPU's compiler would look for.
DESCRIBED_TPU = {
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_ACCELERATOR_TYPE": "v5litepod-4",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_WORKER_ID": "0",
  "TPU_LOG_DIR": "disabled",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # another process may be compiling
}

_EXCHANGES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
# The counts come before LLVM, whose optimisation would only take time.
_XLA_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def main() -> None:
  parser = argument_parser(__doc__.split("\n")[0])
  parser.add_argument("--tpu", action="store_true", help="also compile for a described TPU v5e: many minutes")
  arguments = parser.parse_args()
  os.environ.update(DESCRIBED_TPU if arguments.tpu else {})
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_XLA_FLAGS}"
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", DEVICES)
  config = scaling_config(stages=1 if arguments.quick else 3, crop=32 if arguments.quick else CROP)
  counts = (1, 2) if arguments.quick else (1, 2, 4, 8)
  most = counts[-1]
  meshes = {
    "population": [(most, 1, MeshOptions(population=count)) for count in counts],
    "data": [(None, most, MeshOptions(data=count)) for count in counts],
    "both": [(most, most, MeshOptions(count, most // count)) for count in counts[1:-1]],
  }
  results = {
    axis: [search_row(config, members=members, batch=batch, mesh=mesh) for members, batch, mesh in rows]
    for axis, rows in meshes.items()
  }
  results["training"] = [training_row(config, batch=most, mesh=MeshOptions(data=count)) for count in counts]
  for axis, rows in results.items():
    if rows:
      print_table([flat(row, rows[0]) for row in rows], f"a device's work: {axis}")
  if arguments.tpu:
    tiny = scaling_config(stages=1, crop=16) if arguments.quick else load_config("lol")
    results["tpu"] = [tpu_row(tiny, members=members) for members in TPU_MEMBERS]
    print_table(results["tpu"], f"a round on a described TPU v5e, crop {tiny.data.crop}")
  settings = {"config": "lol", "crop": config.data.crop, "stages": config.network.illumination.stages}
  write_report(
    arguments.json, settings=settings | {"devices": most, "quick": arguments.quick}, results=results, bars={}
  )


def scaling_config(*, stages: int, crop: int) -> Config:
  """configs/lol.py with this many stages and crops of this size."""
  config = load_config("lol")
  own = {
    name: dataclasses.replace(getattr(config.network, name), stages=stages) for name in ("illumination", "denoising")
  }
  return dataclasses.replace(
    config,
    network=dataclasses.replace(config.network, **own),
    data=dataclasses.replace(config.data, crop=crop),
  )


def search_row(config: Config, *, members: int | None, batch: int, mesh: MeshOptions) -> dict[str, Any]:
  """A round of a search alone, or of a population's members, each with batches of `batch` images."""
  layout, own = Layout(mesh, batch_size=batch, members=members), members or 1
  predicted = cost(
    round_passes(config),
    forward_convolutions(config),
    **sizes(config, batch, layout),
    members=own,
  )
  compiled = compile_search(config, members=members, batch=batch, mesh=mesh)
  return row(predicted, count(compiled, own // layout.mesh.shape["population"]), layout, members=own, batch=batch)


def training_row(config: Config, *, batch: int, mesh: MeshOptions) -> dict[str, Any]:
  """A training step of the published genotype with batches of `batch` images."""
  layout = Layout(mesh, batch_size=batch)
  predicted = cost(TRAINING_PASSES, forward_convolutions(config, GENOTYPE), **sizes(config, batch, layout))
  return row(predicted, count(compile_training(config, batch=batch, mesh=mesh), 1), layout, members=1, batch=batch)


def sizes(config: Config, batch: int, layout: Layout) -> dict[str, int]:
  return {"crop": config.data.crop, "batch": batch, **layout.mesh.shape}


def compile_search(config: Config, *, members: int | None, batch: int, mesh: MeshOptions) -> jax.stages.Compiled:
  """The program of a search with its members, if it has any, as the runner makes it."""
  config = dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=batch))
  players, weight_optimizer, alpha_optimizer, init = describe(config)
  step = make_search_step(players, config.search, weight_optimizer, alpha_optimizer, crop=config.data.crop)
  images = (dark_images(config.data.crop, seed) for seed in (0, 1))
  feed = open_feed(readings_of(config, *images), crop=config.data.crop, placement="device")
  layout = Layout(mesh, batch_size=batch, members=members)
  return compile_step(step, jax.jit(init)(jax.random.key(0)), feed, layout, members=members)


def compile_training(config: Config, *, batch: int, mesh: MeshOptions) -> jax.stages.Compiled:
  """The program of a training."""
  network, options, crop = build_network(config.network, GENOTYPE), config.training, config.data.crop
  own = {name: getattr(options, f"{name}_optimizer") for name in network._fields}
  optimizers = {name: make_optimizer(each, decay_steps=options.steps) for name, each in own.items()}
  step = make_train_step(make_objectives(network, config.loss), optimizers, crop=crop)
  state = jax.jit(lambda key: init_train_state(network, optimizers, key))(jax.random.key(0))
  feed = open_feed([Reading(dark_images(crop, 0), (batch,), seed=0)], crop=crop, placement="device")
  return compile_step(step, state, feed, Layout(mesh, batch_size=batch))


def compile_step(
  step: Callable, state: Any, feed: Feed, layout: Layout, *, members: int | None = None
) -> jax.stages.Compiled:
  """The runner's loop over this step, with the loops over stages written out."""
  run, key = Run(state, jnp.ones((), bool)), jax.random.key(1)
  if members is not None:
    run = jax.tree.map(lambda leaf: jnp.stack([leaf] * members), run)
    key, feed = jax.random.split(key, members), PopulationFeed([feed] * members)
  run, key = layout.put((run, key), layout.own)
  images = layout.put(feed.images, layout.everywhere)
  program = make_program(step, feed, layout, members=members)
  with written_out():
    compiled = program.lower(run, images, feed.read(1), np.int32(1), key).compile()
  jax.clear_caches()  # of programs that are never run
  return compiled


@contextlib.contextmanager
def written_out() -> Iterator[None]:
  """`lax.scan` of stages without a loop, which XLA would count once."""
  scan = lax.scan
  lax.scan = functools.partial(scan, unroll=True)
  try:
    yield
  finally:
    lax.scan = scan


def count(compiled: jax.stages.Compiled, members: int) -> dict[str, Any]:
  """What XLA counts in the program of one device, whose body of `members` members it counts once."""
  counted = compiled.cost_analysis()
  exchanged = exchanges(compiled.as_text())
  return {
    "operations": members * counted["flops"],
    "bytes_moved": members * counted["bytes accessed"],
    "collective_bytes": members * sum(exchanged.values()),
    "exchanges": {name: members * size for name, size in exchanged.items()},
    "bytes_kept": compiled.memory_analysis().temp_size_in_bytes,
  }


def exchanges(program: str) -> dict[str, int]:
  """Bytes of the results of every operation that devices exchange numbers by, in the text of a compiled program."""
  found = dict.fromkeys(_EXCHANGES, 0)
  for result, name in re.findall(rf" = (.*?) ({'|'.join(_EXCHANGES)})(?:-start)?\(", program):
    for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", result):
      found[name] += _BYTES[kind] * int(np.prod([int(size) for size in shape.split(",") if size], dtype=int))
  return {name: size for name, size in found.items() if size}


def row(predicted: Cost, counted: dict[str, Any], layout: Layout, *, members: int, batch: int) -> dict[str, Any]:
  return {
    "mesh": dict(layout.mesh.shape),
    "members": members,
    "batch": batch,
    "predicted": dataclasses.asdict(predicted),
    "counted": counted,
  }


def flat(row: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
  """A line of the table; work also as a share of the first row's, and counts as multiples of their predictions."""
  predicted, counted = row["predicted"], row["counted"]
  line = {**row["mesh"], "members": row["members"], "batch": row["batch"]}
  for name in ("operations", "bytes_moved"):
    line |= {
      f"{name}": float(counted[name]),
      "of one device's": counted[name] / first["counted"][name],
      f"{name} / predicted": counted[name] / predicted[name],
    }
  return line | {"exchanged": counted["collective_bytes"], "exchanged, predicted": predicted["collective_bytes"]}


def described_tpu(topology: str = "v5e:2x2") -> list:
  """Devices of a TPU that programs can be compiled for. `DESCRIBED_TPU` must be in the environment.

  Raises:
    RuntimeError: its compiler is not installed.
  """
  return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices


def tpu_row(config: Config, *, members: int) -> dict[str, Any]:
  """A round of so many searches at once on one chip, as its compiler sees it."""
  players, weight_optimizer, alpha_optimizer, init = describe(config)
  step = make_search_step(players, config.search, weight_optimizer, alpha_optimizer, crop=config.data.crop)
  key = jax.eval_shape(lambda: jax.random.key(0))
  one = (jax.eval_shape(init, key), *map(_batch_shape, batches_per_round(config.search)), key)
  many = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((members, *leaf.shape), leaf.dtype), one)
  chip = SingleDeviceSharding(described_tpu()[0])
  start = time.perf_counter()
  compiled = jax.jit(jax.vmap(step), in_shardings=chip, out_shardings=chip).lower(*many).compile()
  seconds, memory = time.perf_counter() - start, compiled.memory_analysis()
  predicted = cost(
    round_passes(config),
    forward_convolutions(config),
    **{"crop": config.data.crop, "members": members, "platform": "accelerator"},
  )
  return {
    "members": members,
    "seconds_to_compile": seconds,
    "program_bytes": memory.generated_code_size_in_bytes,
    "bytes_kept": memory.temp_size_in_bytes,
    "bytes_kept_predicted": members * predicted.bytes_kept,
    "cycles": (cycles := estimated_cycles(compiled.as_text())),
    "estimated_ms_of_a_search": 1e3 * cycles / V5E.clock / members,
  }


def _batch_shape(number: int) -> dict[str, jax.ShapeDtypeStruct]:
  """Whole images of LOL's size."""
  shapes = {"image": ((number, 1, 400, 600, 3), np.uint8), "size": ((number, 1, 2), np.int32)}
  return {name: jax.ShapeDtypeStruct(*each) for name, each in shapes.items()}


def estimated_cycles(program: str) -> int:
  """Sum over the instructions of a TPU program of the cycles that its compiler expects, in loops as often as they run:
  a loop's condition compares with how often, the one integer in it."""
  bodies: dict[str, list[str]] = {}
  for line in program.splitlines():
    if head := re.match(r"(ENTRY )?%(\S+) \(.*\{$", line):
      lines = bodies.setdefault("ENTRY" if head[1] else head[2], [])
    elif line.startswith("  "):
      lines.append(line)

  def integers(name: str) -> list[int]:
    found = [int(number) for line in bodies[name] for number in re.findall(r" s32\[\]\S* constant\((\d+)\)", line)]
    called = [call for line in bodies[name] for call in re.findall(r" calls=%([\w.\-]+)", line)]
    return found + [number for call in called for number in integers(call)]

  def total(name: str) -> int:
    cycles = 0
    for line in bodies[name]:
      if loop := re.search(r" while\(.*condition=%([\w.\-]+), body=%([\w.\-]+)", line):
        cycles += max(integers(loop[1])) * total(loop[2])
      elif own := re.search(r'"estimated_cycles":"(\d+)"', line):
        cycles += int(own[1])
    return cycles

  return total("ENTRY")


if __name__ == "__main__":
  main()
