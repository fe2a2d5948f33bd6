"""The programs of configs/lol.py compiled for a TPU v5e from its description, without a chip.

    python -m benchmarks.speed.described_tpu --json benchmarks/results/described_tpu.json

The extra `tpu` provides the compiler. It needs half an hour for a round's two parts, mostly for convolutions in full
float32, which take some seconds each. The compiler's times are estimates, not measurements. The lower bounds of the
cost model are given for comparison.
"""

import os
import re
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.speed.cost_model import MODULES, TRAINING_PASSES, V5E, Cost, cost, forward_convolutions, round_passes
from benchmarks.speed.scaling import GENOTYPE, scaling_config, search_step, training_step
from ruas_jax.config import load_config
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
  "RUAS_JAX_NATIVE": "off",  # stages stay a loop, as on a TPU; they would be unrolled for this machine's CPU
}


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  os.environ.update(DESCRIBED_TPU)
  config = scaling_config(stages=1, crop=16) if arguments.quick else load_config("lol")
  key = jax.eval_shape(lambda: jax.random.key(0))
  rounds = {f"round of {name}": (name,) for name in MODULES[: 1 if arguments.quick else 2]}
  programs = {"training step": (*training_step(config), (_images(1),), TRAINING_PASSES, GENOTYPE)}
  batches = [_images(number, 1) for number in batches_per_step(search_setting(config).problem, config.search)]
  programs |= {
    name: (*search_step(config, players), batches, round_passes(config, players), None)
    for name, players in rounds.items()
  }
  rows = []
  with progress(len(programs), "programs") as bar:
    for name, (step, init, images, passes, genotype) in programs.items():
      bound = cost(passes, forward_convolutions(config, genotype), crop=config.data.crop, platform="accelerator")
      rows.append({"program": name} | compiled_row(step, (jax.eval_shape(init, key), *images, key), bound))
      bar.update(len(rows))
  print_table(rows, f"configs/lol.py on a described TPU v5e, crop {config.data.crop}")
  settings = {"config": "lol", "crop": config.data.crop, "quick": arguments.quick}
  write_report(arguments.json, settings=settings, results=rows, bars={})


def compiled_row(step: Callable, arguments: tuple, bound: Cost) -> dict[str, Any]:
  """The compiler's numbers for a step on one chip, and the cost model's lower bounds."""
  chip = SingleDeviceSharding(described_tpu()[0])
  lowered = jax.jit(step, in_shardings=chip, out_shardings=chip).lower(*arguments)
  start = time.perf_counter()
  compiled = lowered.compile()
  seconds, memory, text = time.perf_counter() - start, compiled.memory_analysis(), compiled.as_text()
  return {
    "seconds_to_compile": seconds,
    "convolutions": text.count(" convolution("),
    "program_bytes": memory.generated_code_size_in_bytes,
    "bytes_kept": memory.temp_size_in_bytes,
    "estimated_ms": 1e3 * estimated_cycles(text) / V5E.clock,
    **{f"{name}_ms": 1e3 * value for name, value in V5E.seconds(bound).items() if name != "exchange"},
  }


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
