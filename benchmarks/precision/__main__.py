"""The effect of `network.precision` on the hypergradient, on what a search finds, on training and on enhanced images.

    python -m benchmarks.precision --json benchmarks/results/precision.json

A TPU's and a GPU's arithmetic is emulated on a CPU (`emulation`); no device is measured. Images are the built-in ones.
A default is the fastest precision whose effect cannot be seen in the figures. It cannot be seen if

- the hypergradient, its direct and its implicit term have a relative error against float64 of at most 1e-4, or of at
  most twice that of float32, and a cosine of at least 0.999999, for each batch of both modules;
- searches find the same edges, or differ from the exact search in no more edges than another order of float32 sums;
- training ends within 0.01 dB of the exact one, or within the difference that another order of float32 sums makes;
- no number of an enhanced image differs by more than half a level of 255.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import skimage.data
from jax.flatten_util import ravel_pytree

from benchmarks.bars import BARS
from benchmarks.precision.emulation import ARITHMETICS, EXACT, OTHER_ORDER, Arithmetic, computed_in
from benchmarks.precision.hypergradient import TERMS, errors, hypergradient_terms, in_numbers
from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.speed.search_step import MODULES, resized
from ruas_jax.config import Config, load_config
from ruas_jax.data.synthetic import builtin_pairs, darken
from ruas_jax.evaluation.evaluate import evaluate_images
from ruas_jax.experiments.search import SearchResult, search
from ruas_jax.experiments.train import train
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.nas.state import SearchState
from ruas_jax.photos.enhancer import Enhancer
from ruas_jax.photos.model import Model
from ruas_jax.photos.pretrained import load_pretrained

_LARGEST_ERROR, _TIMES_EXACT, _LEAST_COSINE = 1e-4, 2.0, 0.999999
_LARGEST_DECIBELS = 0.01
_ENHANCEMENT = "high, TPU"  # the default of enhancement; on a GPU it is exact
_EXPOSURES = (1.0, 0.1, 0.03)
Row = dict[str, Any]


class Sizes:
  """The amount that is measured."""

  def __init__(self, quick: bool):
    self.rounds = 2 if quick else 60  # before the hypergradient is measured
    self.batches = 1 if quick else 8
    self.search_steps = {"tiny": 2} if quick else {"tiny": 150}
    self.seeds = (1,) if quick else (1, 2)  # beside the configuration's
    self.training_steps = 2 if quick else 400
    self.models = ("lol",) if quick else ("general", "lol")
    self.photographs = ("chelsea",) if quick else ("astronaut", "coffee", "chelsea", "rocket")
    self.side = 40 if quick else 1000  # photographs are cut to this
    self.quick = quick

  def config(self, name: str) -> Config:
    config = load_config(name).with_overrides({"data.train": "builtin"})
    if not self.quick:
      return config
    return resized(config, stages=1, crop=16).with_overrides({"search.hypergradient": "first_order"})


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  if arguments.quick:  # a test of the code, which compiles faster this way
    jax.config.update("jax_disable_most_optimizations", True)
  sizes = Sizes(arguments.quick)
  parts = {"hypergradient": hypergradients, "images": images, "training": trainings, "search": searches}
  results = {}
  for name, measure in parts.items():
    results[name] = list(measure(sizes))
    _write(arguments.json, sizes, results)  # so that it is kept if the next part is stopped
    print_table([{key: value for key, value in row.items() if key != "genotype"} for row in results[name]], name)


def _write(path: pathlib.Path | None, sizes: Sizes, results: dict[str, list[Row]]) -> None:
  seen = {part: _seen(part, rows) for part, rows in results.items()}
  levels = [row["largest_levels"] for row in results.get("images", []) if row["arithmetic"] == _ENHANCEMENT]
  write_report(
    path,
    settings={"emulated": "an accelerator's arithmetic, on a CPU; no accelerator was measured"}
    | {"arithmetics": {name: arithmetic._asdict() for name, arithmetic in ARITHMETICS.items()}}
    | vars(sizes),
    results=results | {"seen": seen},
    bars={"precision_enhanced_levels": max(levels)} if levels else {},
  )


def _seen(part: str, rows: list[Row]) -> list[str]:
  """The arithmetics whose effect on this part can be seen."""
  seed = rows[0].get("seed")
  groups: dict[str, dict[str, Row]] = {}  # of rows that are compared
  for row in rows:
    if row.get("seed") == seed:
      groups.setdefault(str([row.get(name) for name in ("config", "module", "model")]), {})[row["arithmetic"]] = row

  def is_seen(name):
    return any(_IS_SEEN[part](row[name], row[EXACT], row[OTHER_ORDER]) for row in groups.values())

  return [name for name in ARITHMETICS if is_seen(name)]


def _hypergradient_is_seen(row: Row, exact: Row, other_order: Row) -> bool:
  return any(
    row[f"{term}_relative_error"] > max(_LARGEST_ERROR, _TIMES_EXACT * exact[f"{term}_relative_error"])
    or row[f"{term}_cosine"] < _LEAST_COSINE
    for term in TERMS
  )


def _image_is_seen(row: Row, exact: Row, other_order: Row) -> bool:
  return row["largest_levels"] > BARS["precision_enhanced_levels"].threshold


def _training_is_seen(row: Row, exact: Row, other_order: Row) -> bool:
  return abs(row["psnr"] - exact["psnr"]) > max(_LARGEST_DECIBELS, abs(other_order["psnr"] - exact["psnr"]))


def _search_is_seen(row: Row, exact: Row, other_order: Row) -> bool:
  return row["edges_that_differ"] > other_order["edges_that_differ"]


_IS_SEEN = {
  "hypergradient": _hypergradient_is_seen,
  "images": _image_is_seen,
  "training": _training_is_seen,
  "search": _search_is_seen,
}


def hypergradients(sizes: Sizes) -> Iterator[Row]:
  """Of the `lol` configuration after some rounds: the worst of several batches, against float64."""
  config = sizes.config("lol")
  state = jax.device_get(search(config.with_overrides({"search.steps": sizes.rounds})).state)
  batches = list(_batches(config, sizes.batches))
  for module in MODULES[:1] if sizes.quick else MODULES:
    with jax.enable_x64(True):
      references = _terms(config, module, state, batches, np.float64)
    for name, arithmetic in ARITHMETICS.items():
      with computed_in(arithmetic):
        terms = _terms(_with(config, arithmetic), module, state, batches, np.float32)
      compared = [errors(*pair) for pair in zip(terms, references, strict=True)]
      row: Row = {"module": module, "arithmetic": name}
      for figure in compared[0]:
        row[figure] = (min if figure.endswith("cosine") else max)(each[figure] for each in compared)
      yield row


def _with(config: Config, arithmetic: Arithmetic) -> Config:
  return config.with_overrides({"network.precision": arithmetic.option})


def _batches(config: Config, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Pairs of a training and a validation crop `[1, crop, crop, 3]`, in [0, 1]."""
  low, rng, size = builtin_pairs("train").low, np.random.default_rng(0), config.data.crop

  def crop(image):
    top, left = (rng.integers(0, length - size + 1) for length in image.shape[:2])
    return image[None, top : top + size, left : left + size] / 255

  for _ in range(count):
    first, second = rng.choice(len(low), 2, replace=False)
    yield crop(low[first]), crop(low[second])


def _terms(config: Config, module: str, state: SearchState, batches, dtype) -> list:
  program = hypergradient_terms(config, module)
  return [jax.device_get(program(*in_numbers((state, *batch), dtype))) for batch in batches]


def searches(sizes: Sizes) -> Iterator[Row]:
  """What is found with each arithmetic, and with other seeds: edges that differ from the exact search, and the distance
  of alpha from the exact search's, divided by that alpha's norm."""
  for name, steps in sizes.search_steps.items():
    config, exact = sizes.config(name).with_overrides({"search.steps": steps}), None
    for arithmetic, seed in _runs(config, sizes):
      with computed_in(ARITHMETICS[arithmetic]):
        found = search(_with(config, ARITHMETICS[arithmetic]).with_overrides({"seed": seed}))
      exact = exact or found
      yield {"config": name, "seed": seed, "arithmetic": arithmetic} | _differences(found, exact)


def _runs(config: Config, sizes: Sizes) -> list[tuple[str, int]]:
  """Every arithmetic with the configuration's seed, then the exact one with others."""
  return [(name, config.seed) for name in ARITHMETICS] + [(EXACT, seed) for seed in sizes.seeds]


def _differences(found: SearchResult, exact: SearchResult) -> Row:
  alpha, expected = (np.asarray(ravel_pytree(result.state.alpha)[0], np.float64) for result in (found, exact))
  edges = [list(zip(*pair, strict=True)) for pair in zip(_edges(found.genotype), _edges(exact.genotype), strict=True)]
  return {
    "edges_that_differ": sum(one != other for module in edges for one, other in module),
    "alpha_distance": float(np.linalg.norm(alpha - expected) / np.linalg.norm(expected)),
    "genotype": str(found.genotype),
  }


def _edges(genotype: Genotype) -> tuple[tuple[str, ...], ...]:
  return genotype.illumination, genotype.denoising


def trainings(sizes: Sizes) -> Iterator[Row]:
  """Of the `tiny` configuration and the published architecture. The trained models are evaluated exactly."""
  config, pairs = (
    sizes.config("tiny").with_overrides({"training.steps": sizes.training_steps}),
    builtin_pairs("evaluation"),
  )
  for arithmetic, seed in _runs(config, sizes):
    with computed_in(ARITHMETICS[arithmetic]):
      trained = train(_with(config, ARITHMETICS[arithmetic]).with_overrides({"seed": seed}))
    last = trained.metrics[-max(1, sizes.training_steps // 10) :]
    losses = {f"{name}_loss": float(np.mean([record[f"{name}_train_loss"] for record in last])) for name in MODULES}
    quality = evaluate_images(Enhancer(trained.model, precision="exact"), pairs)["mean"]
    yield {"seed": seed, "arithmetic": arithmetic} | losses | quality


def images(sizes: Sizes) -> Iterator[Row]:
  """The bundled models on darkened photographs: differences from the exact result in levels of 255, before rounding."""
  photographs = list(_photographs(sizes))
  for model in sizes.models:
    exact: list[np.ndarray] = []
    for name, arithmetic in ARITHMETICS.items():
      with computed_in(arithmetic):
        results = _enhance(load_pretrained(model), arithmetic, photographs)
      exact = exact or results
      levels = np.concatenate([255 * np.abs(one - other).ravel() for one, other in zip(results, exact, strict=True)])
      yield {
        "model": model,
        "arithmetic": name,
        "largest_levels": float(levels.max()),
        "mean_levels": float(levels.mean()),
        "psnr": float(-10 * np.log10(max(np.mean(np.square(levels / 255)), 1e-20))),
      }


def _photographs(sizes: Sizes) -> Iterator[np.ndarray]:
  rng = np.random.default_rng(0)
  for name in sizes.photographs:
    photograph = getattr(skimage.data, name)()[: sizes.side, : sizes.side]
    for exposure in _EXPOSURES:
      yield darken(photograph, rng=rng, exposure=exposure).astype(np.float32) / 255


def _enhance(model: Model, arithmetic: Arithmetic, photographs: list[np.ndarray]) -> list[np.ndarray]:
  enhancer = Enhancer(model, precision=arithmetic.option)
  return [enhancer(photograph) for photograph in photographs]


if __name__ == "__main__":
  main()
