"""The cost model compared with XLA's counts for the compiled programs, on 1, 2, 4 and 8 virtual CPU devices.

python -m benchmarks.speed.scaling --json benchmarks/results/scaling.json

Virtual devices share the machine's cores, so nothing is timed. The numbers are the work of one device, as the compiler
counts it in the program of one device, and the operands of the operations by which devices exchange numbers.

XLA counts the body of a loop once. So the modules have one stage here, and the loop over the members of a device is
multiplied by their number. (`tests/test_cost_model.py` checks that a round's convolutions are linear in the stages.)
The loop over steps counts once: one step. Each program is compiled in a separate process, because XLA returns little of
the gigabytes of memory that it uses.
"""

import dataclasses
import multiprocessing
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.speed.cost_model import TRAINING_PASSES, Cost, cost, forward_convolutions, round_passes
from benchmarks.speed.search_step import dark_images, open_problem_feed, resized, setting_of, step_of
from ruas_jax.config import Config, load_config
from ruas_jax.engine.device_loop import Run, make_program
from ruas_jax.engine.feed import Feed, PopulationFeed, Reading, open_feed
from ruas_jax.engine.mesh import Layout
from ruas_jax.engine.mesh_options import MeshOptions
from ruas_jax.engine.progress import progress
from ruas_jax.experiments.setting import as_elements, sampler
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.objectives import make_objectives
from ruas_jax.lowlight.training import init_train_state, make_train_step
from ruas_jax.optimizers import make_optimizer

DEVICES = 8
CROP = 64
GENOTYPE = Genotype.named("published")

_EXCHANGES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
# The counts are taken before LLVM, whose optimisation would only cost time.
_XLA_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  config = scaling_config(stages=1, crop=32 if arguments.quick else CROP)
  counts = (1, 2) if arguments.quick else (1, 2, 4, 8)
  most = counts[-1]
  meshes = {
    "population": [(most, 1, MeshOptions(population=count)) for count in counts],
    "data": [(None, most, MeshOptions(data=count)) for count in counts],
    "both": [(most, most, MeshOptions(count, most // count)) for count in counts[1:-1]],
  }
  jobs = [(axis, search_row, job) for axis, rows in meshes.items() for job in rows]
  jobs += [("training", training_row, (most, MeshOptions(data=devices))) for devices in counts]
  results: dict[str, list[dict[str, Any]]] = {}
  spawn = multiprocessing.get_context("spawn")
  with (
    ProcessPoolExecutor(1, mp_context=spawn, initializer=begin, max_tasks_per_child=1) as processes,
    progress(len(jobs), "programs") as bar,
  ):
    for done, (axis, work, job) in enumerate(jobs, start=1):
      results.setdefault(axis, []).append(processes.submit(work, config, *job).result())
      bar.update(done)
  for axis, rows in results.items():
    print_table([flat(row, rows[0]) for row in rows], f"a device's work: {axis}")
  settings = {"config": "lol", "crop": config.data.crop, "stages": config.network.illumination.stages}
  write_report(
    arguments.json, settings=settings | {"devices": most, "quick": arguments.quick}, results=results, bars={}
  )


def begin() -> None:
  """Runs in a new process before anything is compiled. XLA cannot count a call to compiled code, so that is
  disabled."""
  os.environ["RUAS_JAX_NATIVE"] = "off"
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_XLA_FLAGS}"
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", DEVICES)


def scaling_config(*, stages: int, crop: int) -> Config:
  """configs/lol.py with this number of stages and crops of this size."""
  return resized(load_config("lol"), stages=stages, crop=crop)


def search_row(config: Config, members: int | None, batch: int, mesh: MeshOptions) -> dict[str, Any]:
  """A round of a single search, or of a population's members, each with batches of `batch` images."""
  layout, count_of_members = Layout(mesh, batch_size=batch, members=members), members or 1
  predicted = cost(
    round_passes(config),
    forward_convolutions(config),
    **sizes(config, batch, layout),
    members=count_of_members,
  )
  compiled = compile_search(config, members=members, batch=batch, mesh=mesh)
  return row(
    predicted,
    count(compiled, count_of_members // layout.mesh.shape["population"]),
    layout,
    members=count_of_members,
    batch=batch,
  )


def training_row(config: Config, batch: int, mesh: MeshOptions) -> dict[str, Any]:
  """A training step of the published genotype with batches of `batch` images."""
  layout = Layout(mesh, batch_size=batch)
  predicted = cost(TRAINING_PASSES, forward_convolutions(config, GENOTYPE), **sizes(config, batch, layout))
  return row(predicted, count(compile_training(config, batch=batch, mesh=mesh), 1), layout, members=1, batch=batch)


def sizes(config: Config, batch: int, layout: Layout) -> dict[str, int]:
  return {"crop": config.data.crop, "batch": batch, **layout.mesh.shape}


def search_step(config: Config, names: Iterable[str] | None = None) -> tuple[Callable, Callable]:
  """A round with these players or with all, and `init(key) -> state`."""
  setting = setting_of(config, names and tuple(names))
  return step_of(setting), setting.init


def training_step(config: Config) -> tuple[Callable, Callable]:
  """A training step with the published genotype, and `init(key) -> state`."""
  network, options = build_network(config.network, GENOTYPE), config.training
  options_of = {name: getattr(options, f"{name}_optimizer") for name in network._fields}
  optimizers = {name: make_optimizer(each, decay_steps=options.steps) for name, each in options_of.items()}
  step = make_train_step(make_objectives(network, config.loss), optimizers, sampler(config))
  return step, lambda key: init_train_state(network, optimizers, key)


def compile_search(
  config: Config, *, members: int | None, batch: int, mesh: MeshOptions, players: Iterable[str] | None = None
) -> jax.stages.Compiled:
  """The program of a search, or of a population with `members`, as the engine compiles it; of these players or all."""
  config = config.with_overrides({"data.batch_size": batch})
  feed = open_problem_feed(config, config.seed)
  layout = Layout(mesh, batch_size=batch, members=members)
  return compile_step(*search_step(config, players), feed, layout, members=members)


def compile_training(config: Config, *, batch: int, mesh: MeshOptions) -> jax.stages.Compiled:
  """The program of a training, as the engine compiles it."""
  images = as_elements(config, dark_images(config.data.crop, 0))
  feed = open_feed([Reading(images, (batch,), seed=0)], placement="device")
  return compile_step(*training_step(config), feed, Layout(mesh, batch_size=batch))


def compile_step(
  step: Callable, init: Callable, feed: Feed, layout: Layout, *, members: int | None = None
) -> jax.stages.Compiled:
  """The engine's loop over this step, compiled."""
  run, key = Run(jax.jit(init)(jax.random.key(0)), jnp.ones((), bool)), jax.random.key(1)
  if members is not None:
    run = jax.tree.map(lambda leaf: jnp.stack([leaf] * members), run)
    key, feed = jax.random.split(key, members), PopulationFeed([feed] * members)
  run, key = layout.put((run, key), layout.per_member)
  data = layout.put(feed.data, layout.everywhere)
  program = make_program(step, feed, layout, members=members)
  return program.lower(run, data, feed.read(1), np.int32(1), key).compile()


def count(compiled: jax.stages.Compiled, members: int) -> dict[str, Any]:
  """XLA's counts for the program of one device. XLA counts its body for `members` members once."""
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
  """Bytes of the results of every operation by which devices exchange numbers, from the text of a compiled program."""
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
  """A line of the table. Work is also relative to the first row, and counts are relative to their predictions."""
  predicted, counted = row["predicted"], row["counted"]
  line = {**row["mesh"], "members": row["members"], "batch": row["batch"]}
  for name in ("operations", "bytes_moved"):
    line |= {
      f"{name}": float(counted[name]),
      "of one device's": counted[name] / first["counted"][name],
      f"{name} / predicted": counted[name] / predicted[name],
    }
  return line | {"exchanged": counted["collective_bytes"], "exchanged, predicted": predicted["collective_bytes"]}


if __name__ == "__main__":
  main()
