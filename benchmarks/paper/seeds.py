"""A recipe with several seeds: each searches and trains, and one is selected without references."""

import pathlib
import time
from typing import Any, NamedTuple

from ruas_jax.config import Config
from ruas_jax.data.sources import ImageSource
from ruas_jax.engine.run_options import RunOptions
from ruas_jax.experiments.score import score
from ruas_jax.experiments.search import SearchResult, search
from ruas_jax.experiments.train import TrainResult, train


class Run(NamedTuple):
  """The search and training of one seed, its final losses (`experiments.score`), and the time of both (None: the search
  had been started before)."""

  seed: int
  found: SearchResult
  trained: TrainResult
  score: dict[str, float]
  search_seconds: float | None
  training_seconds: float


def run_seed(config: Config, images: ImageSource, seed: int, workdir: pathlib.Path) -> Run:
  """Searches and trains on `images` in the folder `workdir/SEED`. A search that was started there before is resumed,
  and a finished one is not repeated."""
  config, folder = config.with_overrides({"seed": seed}), workdir / str(seed)
  start, begun = time.perf_counter(), (folder / "search").exists()
  found = search(config, workdir=folder / "search", train_images=images)
  middle = time.perf_counter()
  searching = None if begun else middle - start
  trained = train(config, found.genotype, workdir=folder / "model", images=images, run=RunOptions(overwrite=True))
  end = time.perf_counter()
  return Run(seed, found, trained, score(trained.model, config, images), searching, end - middle)


def choose(runs: list[Run]) -> Run:
  """The run with the lowest validation loss."""
  return min(runs, key=lambda run: run.score["total"])


def about(run: Run, config: str, data: str) -> dict[str, Any]:
  """The source of a run's weights, for `write_pretrained`."""
  return {"config": config, "seed": run.seed, "data": data, "score": run.score}


def shorten(config: Config, *, search_steps: int, training_steps: int) -> Config:
  """The same recipe with fewer steps."""
  return config.with_overrides({"search.steps": search_steps, "training.steps": training_steps})
