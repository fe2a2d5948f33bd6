"""The programs of configs/lol.py compiled for a TPU v5e from its description, without a chip.

    python -m benchmarks.speed.described_tpu --json benchmarks/results/described_tpu.json

The extra `tpu` provides the compiler. The times of a step are the compiler's own estimates, not measurements. The lower
bounds of the cost model are given for comparison.
"""

import dataclasses
import os
import re
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.speed.cost_model import MODULES, TRAINING_PASSES, V5E, cost, forward_convolutions, round_passes
from benchmarks.speed.scaling import GENOTYPE, scaling_config, search_step, training_step
from ruas_jax.config import Config, load_config
from ruas_jax.engine.progress import progress
from ruas_jax.experiments.setting import search_setting
from ruas_jax.nas.step import batches_per_step

# Everything that the TPU's compiler would ask the chip or the network for; neither is available.
DESCRIBED_TPU = {
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_ACCELERATOR_TYPE": "v5litepod-4",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_WORKER_ID": "0",
  "TPU_LOG_DIR": "disabled",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # another process may be compiling
}
TRAINING = "training step"
ROUND = "round of both modules"
CHIPS = 4


@dataclasses.dataclass(frozen=True)
class Program:
  """A program to compile.

  Attributes:
    name: TRAINING, ROUND, or a module whose half of a round it is.
    precision: `network.precision`.
    chips: 1, or the chips that share the images of a training's batch or the members of a population.
  """

  name: str
  precision: str = "exact"
  chips: int = 1

  @property
  def modules(self) -> tuple[str, ...]:
    return MODULES if self.name == ROUND else (self.name,)


def programs(quick: bool) -> list[Program]:
  if quick:
    return [Program(TRAINING), Program(MODULES[0])]
  every = [TRAINING, *MODULES, ROUND]
  of_one_chip = [Program(name, precision) for precision in ("exact", "high") for name in every]
  return of_one_chip + [Program(name, chips=CHIPS) for name in (TRAINING, MODULES[0])]


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  os.environ.update(DESCRIBED_TPU)
  config = for_tpu(scaling_config(stages=1, crop=16) if arguments.quick else load_config("lol"))
  todo, rows = programs(arguments.quick), []
  with progress(len(todo), "programs") as bar:
    for program in todo:
      rows.append(compiled_row(config, program))
      bar.update(len(rows))
  print_table(rows, f"configs/lol.py on a described TPU v5e, crop {config.data.crop}")
  settings = {"config": "lol", "crop": config.data.crop, "quick": arguments.quick}
  write_report(arguments.json, settings=settings, results=rows, bars={} if arguments.quick else bars_of(rows))


def bars_of(rows: list[dict[str, Any]]) -> dict[str, float]:
  by_program = {Program(row["program"], row["precision"], row["chips"]): row for row in rows}

  def of(name, figure, chips=1):
    return by_program[Program(name, chips=chips)][figure]

  sharded = [of(name, "estimated_ms", chips=CHIPS) / of(name, "estimated_ms") for name in (TRAINING, MODULES[0])]
  return {
    "tpu_illumination_milliseconds": of("illumination", "estimated_ms"),
    "tpu_denoising_milliseconds": of("denoising", "estimated_ms"),
    "tpu_round_compile_seconds": of(ROUND, "seconds_to_compile"),
    "tpu_training_compile_seconds": of(TRAINING, "seconds_to_compile"),
    "tpu_training_milliseconds": of(TRAINING, "estimated_ms"),
    "tpu_training_program_megabytes": of(TRAINING, "program_bytes") / 1e6,
    "tpu_round_program_megabytes": of(ROUND, "program_bytes") / 1e6,
    "tpu_sharded_times_one_chip": max(sharded),
  }


def for_tpu(config: Config) -> Config:
  """The configuration as it runs on a TPU. `auto` would choose the layout for this machine's backend."""
  return config.with_overrides({"network.layout": "blocks"})


def compiled_row(config: Config, program: Program) -> dict[str, Any]:
  """The compiler's numbers for one chip's share of a step, and the cost model's lower bounds."""
  config = config.with_overrides({"network.precision": program.precision})
  genotype, passes = None, TRAINING_PASSES
  if program.name == TRAINING:
    genotype = GENOTYPE
  else:
    passes = round_passes(config, program.modules)
  bound = cost(passes, forward_convolutions(config, genotype), crop=config.data.crop, platform="accelerator")
  step, arguments, shardings = to_compile(config, program)
  lowered = jax.jit(step, **shardings).lower(*arguments)
  start = time.perf_counter()
  compiled = lowered.compile()
  seconds, memory, text = time.perf_counter() - start, compiled.memory_analysis(), compiled.as_text()
  return {
    "program": program.name,
    "precision": program.precision,
    "chips": program.chips,
    "seconds_to_compile": seconds,
    "convolutions": text.count(" convolution("),
    "program_bytes": memory.generated_code_size_in_bytes,
    "bytes_kept": memory.temp_size_in_bytes,
    "estimated_ms": 1e3 * estimated_cycles(text) / V5E.clock,
    **{f"{name}_ms": 1e3 * value for name, value in V5E.seconds(bound).items() if name != "exchange"},
  }


def to_compile(config: Config, program: Program) -> tuple[Callable, tuple, dict[str, Any]]:
  """A step, the shapes of its arguments, and their shardings. With several chips, each has as much to do as one: a
  training's batch has an image for each chip, and a search has a member for each."""
  key = jax.eval_shape(lambda: jax.random.key(0))
  devices = described_tpu()[: program.chips]
  if program.name == TRAINING:
    step, init = training_step(config)
    arguments = jax.eval_shape(init, key), _images(program.chips), key
  else:
    step, init = search_step(config, program.modules)
    counts = batches_per_step(search_setting(config).problem, config.search)
    arguments = jax.eval_shape(init, key), *(_images(count, 1) for count in counts), key
  if program.chips == 1:
    chip = SingleDeviceSharding(devices[0])
    return step, arguments, {"in_shardings": chip, "out_shardings": chip}
  mesh = Mesh(np.array(devices), ("all",))
  everywhere, divided = (NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec("all")))
  if program.name == TRAINING:
    return step, arguments, {"in_shardings": (everywhere, divided, everywhere), "out_shardings": everywhere}
  specs = {"in_specs": PartitionSpec("all"), "out_specs": PartitionSpec("all")}
  members = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((program.chips, *leaf.shape), leaf.dtype), arguments)
  step = jax.shard_map(jax.vmap(step), mesh=mesh, check_vma=False, **specs)
  return step, members, {"in_shardings": divided, "out_shardings": divided}


def _images(*leading: int) -> dict[str, jax.ShapeDtypeStruct]:
  """Whole images with LOL's size."""
  return {
    "image": jax.ShapeDtypeStruct((*leading, 400, 600, 3), np.uint8),
    "size": jax.ShapeDtypeStruct((*leading, 2), np.int32),
  }


def described_tpu(topology: str = "v5e:2x2") -> list:
  """Devices of a TPU for which programs can be compiled. `DESCRIBED_TPU` must be in the environment.

  Raises:
    RuntimeError: the TPU's compiler is not installed.
  """
  return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices


def estimated_cycles(program: str) -> int:
  """Sum of the cycles that the compiler of a TPU program expects for its instructions; those in loops count as often as
  the loop runs. The number of iterations is the only integer in a loop's condition."""
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
      elif match := re.search(r'"estimated_cycles":"(\d+)"', line):
        cycles += int(match[1])
    return cycles

  return total("ENTRY")


if __name__ == "__main__":
  main()
