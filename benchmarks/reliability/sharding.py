"""A population on every shape of mesh, and on two processes, compared with the same population on one device.

python -m benchmarks.reliability.sharding --json benchmarks/results/sharding.json

Each run is a separate process with a given number of CPU devices. The processes of one run find each other on the
loopback address.

With the released losses, the terms of one bias's gradient cancel to less than a millionth of their size. So their
rounding errors, which depend on the order of additions, matter in it. The threshold is therefore checked with the
paper's losses, as in `benchmarks.speed.population`. The rows name the array with the largest difference and its size,
and give the largest difference of all others.
"""

import argparse
import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

import numpy as np

from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax.engine.progress import progress

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_DEVICES, _MEMBERS, _BATCH, _CROP = 8, 8, 8, 16
_MESHES = ((8, 1), (4, 2), (2, 4), (1, 8))


@dataclasses.dataclass(frozen=True)
class Job:
  """One run: a mesh of `population` times `data` devices, in a number of processes."""

  population: int
  data: int
  processes: int = 1
  dtype: str = "float64"
  steps: int = 20
  losses: str = "paper"

  def __str__(self) -> str:
    return f"{self.population}x{self.data}" + (f", {self.processes} processes" if self.processes > 1 else "")


def main() -> None:
  parser = argument_parser(__doc__.split("\n")[0])
  parser.add_argument("--worker", nargs=8, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.worker:
    *numbers, dtype, losses, out = options.worker
    population, data, processes, steps, number = map(int, numbers)
    work(Job(population, data, processes, dtype, steps, losses), number, out)
    return
  rows = compare(quick=options.quick)
  print_table(rows, f"{_MEMBERS} members, batches of {_BATCH}, against one device")
  held = [row for row in rows if row["dtype"] == "float64" and row["losses"] == "paper"]
  worst = max(row["largest_relative_difference"] for row in held)
  settings = {"members": _MEMBERS, "batch_size": _BATCH, "crop": _CROP, "devices": _DEVICES, "quick": options.quick}
  write_report(options.json, settings=settings, results=rows, bars={"sharding_difference": worst})


def compare(*, quick: bool) -> list[dict]:
  """A row for each dtype, losses and mesh: the difference of alpha and the weights from those of one device."""
  meshes = [Job(population, data) for population, data in (_MESHES[1:2] if quick else _MESHES)]
  meshes += [Job(4, 2, 2), *[Job(1, 8, 2)] * (not quick)]
  groups = [("float64", "paper", meshes)]
  groups += [] if quick else [("float32", "paper", meshes), ("float64", "released", [Job(4, 2), Job(1, 8)])]
  rows, done = [], 0
  with tempfile.TemporaryDirectory() as folder, progress(sum(1 + len(jobs) for *_, jobs in groups), "runs") as bar:
    for dtype, losses, jobs in groups:
      alone = None
      for job in (Job(1, 1), *jobs):
        job = dataclasses.replace(job, dtype=dtype, losses=losses, steps=2 if quick else 20)
        found = run(job, pathlib.Path(folder) / f"{dtype}_{losses}_{job}.npz")
        done += 1
        bar.update(done)
        if alone is None:
          alone = found
          continue
        rows.append(
          {"dtype": dtype, "losses": losses, "mesh": str(job), "steps": job.steps} | _difference(alone, found)
        )
  return rows


def run(job: Job, out: pathlib.Path) -> dict[str, np.ndarray]:
  """Final alpha and weights of all members, by name."""
  devices = max(1, job.population * job.data // job.processes)
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": str(devices),
    "RUAS_SHARDING_ADDRESS": f"127.0.0.1:{port}",
  }
  numbers = [job.population, job.data, job.processes, job.steps]
  command = [sys.executable, "-m", "benchmarks.reliability.sharding", "--worker", *map(str, numbers)]
  processes = [
    subprocess.Popen(
      [*command, str(number), job.dtype, job.losses, str(out)],
      cwd=_ROOT,
      env=environment,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    for number in range(job.processes)
  ]
  said = [process.communicate()[1] for process in processes]
  for process, text in zip(processes, said, strict=True):
    if process.returncode:
      raise RuntimeError(f"{job}: {text[-2000:]}")
  with np.load(out) as arrays:
    return dict(arrays)


def work(job: Job, number: int, out: str) -> None:
  """Runs in the new process: searches; the first process writes the result."""
  import jax

  from benchmarks.speed.search_step import dark_images, search_config
  from ruas_jax.engine.distributed import join
  from ruas_jax.engine.mesh_options import MeshOptions
  from ruas_jax.engine.run_options import RunOptions
  from ruas_jax.experiments.population import search_population
  from ruas_jax.sweep import PopulationOptions

  if job.processes > 1:
    join(f"{os.environ['RUAS_SHARDING_ADDRESS']},{job.processes},{number}")
  jax.config.update("jax_enable_x64", job.dtype == "float64")
  recipes = {"loss.illumination": job.losses, "loss.denoising": job.losses}
  config = search_config(_CROP, "mixed_mode").with_overrides(
    {"data.batch_size": _BATCH, "search.steps": job.steps} | recipes
  )
  found = search_population(
    config,
    PopulationOptions(seeds=_MEMBERS),
    train_images=dark_images(_CROP, 0),
    val_images=dark_images(_CROP, 1),
    run=RunOptions(mesh=MeshOptions(population=job.population, data=job.data)),
  )
  if number:
    return
  arrays = {}
  for position, result in enumerate(found.results):
    kept = {"alpha": result.state.alpha, "weights": result.state.weights}
    for path, leaf in jax.tree_util.tree_flatten_with_path(kept)[0]:
      arrays[f"{position}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
  np.savez(out, **arrays)


def _difference(alone: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> dict[str, float | bool | str]:
  """The largest difference over all arrays, each relative to its largest number; the array with this difference, its
  largest number, and the largest difference over all other arrays."""
  if alone.keys() != found.keys():
    raise RuntimeError("the runs have arrays with different names")
  largest = {name: np.abs(values).max() for name, values in alone.items()}
  apart = {
    name: float(np.abs(values.astype(np.float64) - found[name]).max() / (largest[name] or 1.0))
    for name, values in alone.items()
  }
  worst = max(apart, key=apart.get)
  array = worst.lstrip("0123456789")
  return {
    "largest_relative_difference": apart[worst],
    "array": array,
    "its_size": float(largest[worst]),
    "without_it": max(value for name, value in apart.items() if not name.endswith(array)),
    "bit_identical": not any(apart.values()),
  }


if __name__ == "__main__":
  main()
