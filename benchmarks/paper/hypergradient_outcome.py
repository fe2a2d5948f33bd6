"""Does the estimator of the hypergradient change the result of a search on LOL?

    python -m benchmarks.paper.hypergradient_outcome --data LOL --json benchmarks/results/hypergradient_outcome.json \
        --png docs/hypergradient_outcome.png --workdir runs/outcome

LOL is a folder with `train/low` (search and training) and the pairs `dev/{low,high}` (evaluation). It must not contain
LOL's test images. Every estimator searches with every seed for the same number of rounds. The resulting genotypes, and
random ones, are trained for the same number of steps.

- The same seed means the same initial weights, halves of the images, order and crops. But T = 4 reads four training
  batches in a round: round r looks ahead through images 4r to 4r + 3 of that order, and updates the weights on image
  4r. So there is also a first-order search on the same data, to separate the effect of the horizon from that of the
  images.
- The validation loss of a search (`last_tenth`, medians) is at the weights after T steps, and for first-order at the
  current ones. To compare estimators, use L_t + beta L_n after training, over the whole low-light images of the pairs.
- A genotype is trained with the seed of its search (random ones use the seeds in turn). A genotype that a seed found
  twice is trained once.
- Agreement is the share of the 14 searched edges with the same operation; chance gives 1/7. The cosine is that of the
  differences of softmax(alpha) from uniform.

A job is one search or training on one core. It takes `core_seconds`, including compilation. Its result is kept in the
work directory, so an interrupted study can be resumed. Delete that folder when the code has changed.
"""

import contextlib
import dataclasses
import functools
import io
import itertools
import json
import multiprocessing
import os
import pathlib
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax.config import Config, load_config
from ruas_jax.data.sources import ImageArrays, ImageFolder, PairFolders
from ruas_jax.engine.metric_log import to_json_value
from ruas_jax.engine.run_options import RunOptions
from ruas_jax.evaluation.evaluate import evaluate
from ruas_jax.experiments.search import search
from ruas_jax.experiments.train import train
from ruas_jax.files import write_atomically, write_json
from ruas_jax.lowlight.genotype import CELLS, EDGES, Genotype
from ruas_jax.lowlight.objectives import make_objectives
from ruas_jax.lowlight.operations import CANDIDATES, operation_names
from ruas_jax.photos.model import Model

ESTIMATORS = {
  "first-order": {"hypergradient": "first_order", "unroll_steps": 1},
  "first-order, data of T = 4": {"hypergradient": "first_order", "unroll_steps": 4},
  "finite difference": {"hypergradient": "finite_difference", "unroll_steps": 1},
  "exact, T = 1": {"hypergradient": "unrolled", "unroll_steps": 1},
  "exact, T = 4": {"hypergradient": "unrolled", "unroll_steps": 4},
}
RANDOM = "random"
Key = tuple[str, int]  # the method, and its seed or the number of the random genotype


class Job(NamedTuple):
  """One search; or one training of `genotype` and its evaluation on `pairs` pairs. `name` is the name of its files."""

  name: str
  data: pathlib.Path
  config: Config
  genotype: Genotype | None = None
  pairs: int = 0


def main() -> None:
  parser = argument_parser(__doc__.split("\n")[0])
  parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with train/low and dev")
  parser.add_argument("--png", type=pathlib.Path, help="write the picture to this file")
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument("--search-steps", type=int, default=300, help="rounds of every search")
  parser.add_argument("--training-steps", type=int, default=1000)
  parser.add_argument("--crop", type=int, default=96, help="side of the crops of search and training")
  parser.add_argument("--random", type=int, default=6, help="number of random genotypes")
  parser.add_argument("--pairs", type=int, default=64, help="number of development pairs for evaluation, evenly spaced")
  parser.add_argument("--workdir", type=pathlib.Path, help="keep the jobs' results here, and resume from them")
  parser.add_argument("--jobs", type=int, default=2, help="number of parallel processes")
  arguments = parser.parse_args()
  if arguments.quick:
    vars(arguments).update(seeds=2, random=2, pairs=2, search_steps=10, training_steps=20, crop=48)
  if min(arguments.seeds, arguments.random) < 2:
    parser.error("agreement needs pairs: --seeds and --random must be at least 2")
  config = _config(arguments)
  with tempfile.TemporaryDirectory() as temporary:
    run_jobs = functools.partial(_run_jobs, folder=arguments.workdir or pathlib.Path(temporary), width=arguments.jobs)
    searches = _search_jobs(arguments, config)
    found = run_jobs(searches)
    genotypes = {key: Genotype.from_text(found[job]["genotype"]) for key, job in searches.items()}
    draws = np.random.default_rng(0).choice(operation_names(CANDIDATES), size=(arguments.random, 2, len(EDGES)))
    drawn = {(RANDOM, number): Genotype(*map(tuple, cells)) for number, cells in enumerate(draws.tolist())}
    genotypes |= drawn
    trainings = _training_jobs(arguments, config, genotypes)
    trained = run_jobs(trainings)

  architectures = [
    {"method": key[0], "seed": job.config.seed, "genotype": str(genotypes[key])}
    | trained[job]
    | ({"search": found[searches[key]]} if key in searches else {})
    for key, job in trainings.items()
  ]
  similarity = {
    "agreement": _similarity(_agreement, genotypes, arguments.seeds),
    "alpha_cosine": _similarity(_cosine, {key: found[job]["shares"] for key, job in searches.items()}, arguments.seeds),
  }
  chance = float(np.mean([_agreement(*pair) for pair in itertools.combinations(drawn.values(), 2)]))
  methods = _summary(architectures, similarity, chance)
  rows = [
    {"method": method, "agreement": values["agreement"], "alpha_cosine": values.get("alpha_cosine", "")}
    | {name: "{mean:.4g} ± {std:.2g}".format(**values[name]) for name in ("psnr", "ssim", "validation_loss")}
    for method, values in methods.items()
  ]
  print_table(rows, "what the searches find, after training")
  settings = {name: getattr(arguments, name) for name in ("quick", "seeds", "random", "pairs", "jobs")}
  write_report(
    arguments.json,
    settings=settings | {"estimators": ESTIMATORS, "config": dataclasses.asdict(config)},
    results={"methods": methods, "similarity": similarity, "architectures": architectures},
    bars={},
  )
  if arguments.png:
    _plot(arguments.png, architectures, similarity)


def _config(arguments) -> Config:
  """`configs/lol_paper_losses.py` with another size. The product of alpha's learning rate and the rounds does not
  change, so that alpha moves equally far."""
  base = load_config("lol_paper_losses")
  rate = base.search.alpha_optimizer.learning_rate * base.search.steps / arguments.search_steps
  return base.with_overrides(
    {
      "data.train": "train/low",
      "data.crop": arguments.crop,
      "search.steps": arguments.search_steps,
      "search.alpha_optimizer.learning_rate": rate,
      "training.steps": arguments.training_steps,
    }
  )


def _search_jobs(arguments, config: Config) -> dict[Key, Job]:
  """The searches, seed by seed, so that a later seed finds its programs in the cache; the longest first."""
  jobs = {}
  for seed, (method, options) in itertools.product(range(arguments.seeds), reversed(ESTIMATORS.items())):
    job_config = config.with_overrides({"seed": seed} | {f"search.{name}": value for name, value in options.items()})
    jobs[method, seed] = Job(f"search {method} {seed}", arguments.data, job_config)
  return jobs


def _training_jobs(arguments, config: Config, genotypes: Mapping[Key, Genotype]) -> dict[Key, Job]:
  """The trainings. Equal genotypes with the same seed share a job."""
  jobs, known = {}, {}
  for (method, number), genotype in genotypes.items():
    job_config = config.with_overrides({"seed": number % arguments.seeds})
    job = Job(f"train {method} {number}", arguments.data, job_config, genotype, arguments.pairs)
    jobs[method, number] = known.setdefault((genotype, job_config.seed), job)
  return jobs


def _run_jobs(jobs: Mapping[Any, Job], *, folder: pathlib.Path, width: int) -> dict[Job, dict[str, Any]]:
  """The result of every job, from `width` processes, each on a separate core if there are enough."""
  context = multiprocessing.get_context("spawn")  # fork would copy jax's threads
  ranks = context.SimpleQueue()
  for rank in range(width):
    ranks.put(rank)
  start, results = time.perf_counter(), {}
  with ProcessPoolExecutor(width, mp_context=context, initializer=_prepare, initargs=(ranks, folder / "cache")) as pool:
    futures = {pool.submit(_run, job, folder): job for job in dict.fromkeys(jobs.values())}
    for done, future in enumerate(as_completed(futures), start=1):
      results[futures[future]] = future.result()
      print(f"{time.perf_counter() - start:.0f} s: {done}/{len(futures)} {futures[future].name}", flush=True)
  return results


def _prepare(ranks, cache: pathlib.Path) -> None:
  """Called before a process counts its cores: one thread is fastest for such a small network."""
  if hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[ranks.get() % len(cores)]})
  jax.config.update("jax_compilation_cache_dir", str(cache))


def _run(job: Job, folder: pathlib.Path) -> dict[str, Any]:
  """The stored result of an identical job, or a new one."""
  name = re.sub(r"\W+", "_", job.name)
  path, workdir = folder / f"{name}.json", folder / name
  settings = to_json_value(dataclasses.asdict(job.config)) | {"genotype": str(job.genotype), "pairs": job.pairs}
  if path.exists() and (kept := json.loads(path.read_text()))["settings"] == settings:
    return kept["result"]
  start = time.process_time()
  with contextlib.redirect_stdout(io.StringIO()):  # the progress bars of several processes would overwrite each other
    result = _train(job, workdir) if job.genotype else _search(job, workdir)
  result = to_json_value(result | {"core_seconds": time.process_time() - start})
  write_json(path, {"settings": settings, "result": result})
  return result


def _search(job: Job, workdir: pathlib.Path) -> dict[str, Any]:
  found = search(job.config, workdir=workdir, run=RunOptions(overwrite=True), train_images=_images(job.data))
  last = found.metrics[-max(1, len(found.metrics) // 10) :]
  return {
    "genotype": str(found.genotype),
    "shares": {cell: jax.nn.softmax(alpha) for cell, alpha in found.state.alpha.items()},
    "last_tenth": {name: np.median([record[name] for record in last]) for name in last[0] if name.endswith("_loss")},
  }


def _train(job: Job, workdir: pathlib.Path) -> dict[str, Any]:
  anew = RunOptions(overwrite=True)
  model = train(job.config, job.genotype, workdir=workdir, run=anew, images=_images(job.data)).model
  pairs = PairFolders(job.data / "dev" / "low", job.data / "dev" / "high")
  pairs = pairs.subset(np.linspace(0, len(pairs) - 1, min(job.pairs, len(pairs)), dtype=int))
  return evaluate(model, pairs)["mean"] | _losses(model, job.config, pairs.low)


@functools.cache  # each process decodes them once
def _images(data: pathlib.Path) -> ImageArrays:
  folder = ImageFolder(data / "train" / "low")
  return ImageArrays(folder.names, folder)


def _losses(model: Model, config: Config, images: Sequence[np.ndarray]) -> dict[str, float]:
  """L_t, L_n and L_t + beta L_n, means over whole images."""
  objectives = make_objectives(model.network, config.loss)

  @jax.jit
  def losses(image):
    loss_t, illuminated = objectives.illumination(model.weights["illumination"], None, image[None])
    return loss_t, objectives.denoising(model.weights["denoising"], None, illuminated)

  loss_t, loss_n = np.mean([losses(image.astype(np.float32) / 255) for image in images], axis=0).tolist()
  return {"l_t": loss_t, "l_n": loss_n, "validation_loss": loss_t + config.loss.beta * loss_n}


def _agreement(first: Genotype, second: Genotype) -> float:
  edges = zip(first.illumination + first.denoising, second.illumination + second.denoising, strict=True)
  return float(np.mean([a == b for a, b in edges]))


def _cosine(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
  a, b = (np.concatenate([shares[cell] for cell in CELLS]).ravel() - 1 / len(CANDIDATES) for shares in (first, second))
  return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _similarity(measure: Callable, values: Mapping[Key, Any], seeds: int) -> dict[str, dict[str, float]]:
  """Estimator -> estimator -> mean over equal seeds; for an estimator with itself, over pairs of different seeds."""
  same, different = [(seed, seed) for seed in range(seeds)], list(itertools.combinations(range(seeds), 2))

  def mean(first, second):
    return np.mean([measure(values[first, a], values[second, b]) for a, b in (different if first == second else same)])

  return {first: {second: float(mean(first, second)) for second in ESTIMATORS} for first in ESTIMATORS}


def _summary(architectures, similarity, chance: float) -> dict[str, dict[str, Any]]:
  """Method -> mean and standard deviation of every metric over the seeds, the agreement of the seeds, and the cost."""
  summary = {method: {"agreement": chance} for method in (*ESTIMATORS, RANDOM)}
  for method in summary:
    selected = [row for row in architectures if row["method"] == method]
    for name in ("psnr", "ssim", "l_t", "l_n", "validation_loss"):
      values = [row[name] for row in selected]
      summary[method][name] = {"mean": np.mean(values), "std": np.std(values, ddof=1)}
    if method != RANDOM:
      summary[method] |= {name: rows[method][method] for name, rows in similarity.items()}
      summary[method]["search_core_seconds"] = np.median([row["search"]["core_seconds"] for row in selected])
  return summary


def _plot(path: pathlib.Path, architectures, similarity) -> None:
  """Draws the metrics of every trained architecture and their means on the left, and similarities on the right."""
  figure = Figure(figsize=(19, 4.6), dpi=120, facecolor="white", layout="constrained")
  axes = figure.subplots(1, 4, width_ratios=(3, 3, 4, 4))
  methods = [*ESTIMATORS, RANDOM]
  titles = ("PSNR, dB", r"$L_t + \beta\,L_n$", "edges that agree (chance: 0.14)", "cosine of softmax(alpha) - 1/7")
  for axis, name, title in zip(axes[:2], ("psnr", "validation_loss"), titles[:2], strict=True):
    for position, method in enumerate(methods):
      values = [row[name] for row in architectures if row["method"] == method]
      axis.scatter(np.linspace(position - 0.15, position + 0.15, len(values)), values, color=f"C{position}")
      axis.hlines(np.mean(values), position - 0.3, position + 0.3, color=f"C{position}")
    axis.set_title(f"{title}\nafter training")
    axis.set_xticks(range(len(methods)), methods, rotation=30, ha="right", rotation_mode="anchor")
  for axis, name, title in zip(axes[2:], similarity, titles[2:], strict=True):
    values = np.array([list(row.values()) for row in similarity[name].values()])
    axis.imshow(values, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(values):
      axis.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else "black")
    axis.set_title(f"{title}\nsame seed; diagonal: between seeds")
    axis.set_xticks(range(len(values)), ESTIMATORS, rotation=30, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(values)), ESTIMATORS)
  figure.savefig(content := io.BytesIO(), format="png")
  write_atomically(path, content.getvalue())


if __name__ == "__main__":
  main()
