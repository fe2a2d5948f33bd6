"""Time of a step with a snapshot every 100 steps, relative to one without; the two take turns.

    python -m benchmarks.speed.checkpointing --json benchmarks/results/checkpointing.json

Each run is a call of `search` or `train` with a work directory. Its steady state is from the first records of its log
after step 100, when everything is compiled, to the last. All snapshots in this time are included, except work on one
that is still being written at the end. The first snapshot of a run, and waiting for the last one, are not part of a
step.
"""

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.speed.search_step import dark_images, search_config
from ruas_jax.engine.metric_log import read_metrics
from ruas_jax.engine.progress import progress
from ruas_jax.engine.run_options import CheckpointOptions, RunOptions
from ruas_jax.experiments.search import search
from ruas_jax.experiments.train import train

EVERY = 100
_NEVER = 10**9
_SIZE = 64  # small, so that steps are short compared with a write
_STEPS = {"search": 5 * EVERY, "training": 25 * EVERY}  # half a minute and ten seconds


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  repeats, steps = (1, dict.fromkeys(_STEPS, 2 * EVERY)) if arguments.quick else (7, _STEPS)
  cases = {"search": searching(steps["search"]), "training": training(steps["training"])}
  with tempfile.TemporaryDirectory() as folder:
    jax.config.update("jax_compilation_cache_dir", folder)  # each run compiles its program, or reads it from here
    rows = [{"case": name} | compare(run, repeats) for name, run in cases.items()]
  print_table(rows, f"a step with a snapshot every {EVERY} steps, and without")
  write_report(
    arguments.json,
    settings={"size": _SIZE, "every": EVERY, "steps": steps, "repeats": repeats, "quick": arguments.quick},
    results=rows,
    bars={} if arguments.quick else {"checkpointing_times_slower": max(row["times_slower"] for row in rows)},
  )


def searching(steps: int) -> Callable[[str, RunOptions], Any]:
  """A search of both modules, `(workdir, options) -> result`."""
  config = search_config(_SIZE).with_overrides({"search.steps": steps})
  images = {"train_images": dark_images(_SIZE, 0), "val_images": dark_images(_SIZE, 1)}
  return lambda workdir, run: search(config, workdir=workdir, run=run, **images)


def training(steps: int) -> Callable[[str, RunOptions], Any]:
  """A training of both modules, `(workdir, options) -> result`."""
  config = search_config(_SIZE).with_overrides({"training.steps": steps})
  return lambda workdir, run: train(config, workdir=workdir, run=run, images=dark_images(_SIZE, 0))


def compare(run: Callable[[str, RunOptions], Any], repeats: int) -> dict[str, float]:
  """Medians over this number of pairs of runs. The ratio is the median of the ratios of the pairs."""
  seconds: dict[int, list[float]] = {EVERY: [], _NEVER: []}
  with progress(2 * repeats, "runs") as bar:
    for repeat in range(repeats):
      for every in (EVERY, _NEVER) if repeat % 2 else (_NEVER, EVERY):
        with tempfile.TemporaryDirectory() as workdir:
          run(workdir, RunOptions(checkpoint=CheckpointOptions(every=every)))
          seconds[every].append(steady(pathlib.Path(workdir)))
        bar.update(sum(map(len, seconds.values())))
  ratios = np.divide(seconds[EVERY], seconds[_NEVER])
  return {
    "seconds_with": float(np.median(seconds[EVERY])),
    "seconds_without": float(np.median(seconds[_NEVER])),
    "times_slower": float(np.median(ratios)),
    "least": float(ratios.min()),
    "most": float(ratios.max()),
  }


def steady(workdir: pathlib.Path) -> float:
  """Seconds of a step, from the times in the log of a run."""
  timed = [record for record in read_metrics(workdir / "metrics.jsonl") if "seconds" in record]
  first, last = next(record for record in timed if record["step"] >= EVERY), timed[-1]
  return (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])


if __name__ == "__main__":
  main()
