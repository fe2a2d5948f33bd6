"""The study of hypergradients at the end of a search: load it, measure, report, draw."""

import dataclasses
import io
import os
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from etils import epath

from ruas_jax.config import Config, load_config
from ruas_jax.data.sources import ImageSource
from ruas_jax.engine.leftovers import METRICS
from ruas_jax.engine.metric_log import read_metrics
from ruas_jax.engine.progress import progress
from ruas_jax.engine.records import Record
from ruas_jax.engine.report import write_report
from ruas_jax.errors import UserError
from ruas_jax.experiments.frozen_search import freeze, player_of
from ruas_jax.experiments.search import search
from ruas_jax.experiments.setting import as_elements, load_search, open_both
from ruas_jax.files import check_writable, write_atomically, write_json
from ruas_jax.hypergradient_study import figures, tables
from ruas_jax.hypergradient_study.bars import against_bars, measure_costs, summarize_epsilon
from ruas_jax.hypergradient_study.measure import Case, Laboratory, Row
from ruas_jax.hypergradient_study.sweeps import QUICK, Grid, plan
from ruas_jax.nas.options import DiagnosticsOptions
from ruas_jax.nas.state import SearchState

Module = Literal["illumination", "denoising"]

OUTPUTS = (
  *("hypergrad.json", "hypergrad.csv", "hypergrad.txt"),
  *("epsilon.png", "horizon.png", "rate.png", "decomposition.png"),
)
"""All files that a study may write into its folder. Other files are not touched."""

_ROUNDS = 20  # rounds in which the programs that thresholds compare are timed in turn
_ENOUGH_SECONDS = 2.0  # total time of the calls of one program, for the times in the tables


class _Found(NamedTuple):
  config: Config
  state: SearchState
  train: ImageSource
  validation: ImageSource
  records: list[Record]


def hypergrad(
  *,
  out: str | os.PathLike | None,
  json: str | os.PathLike | None = None,
  state: str | os.PathLike | None = None,
  train: str | None = None,
  tfds_dir: str | None = None,
  module: Module = "illumination",
  crop: int = 96,
  smoothing: float = 0.01,
  seed: int = 0,
  quick: bool = False,
  grid: Grid | None = None,
) -> dict[str, Any]:
  """Compares the hypergradient estimators at the end of a search. Prints tables and returns the report.

  Args:
    out: folder for `OUTPUTS`; None: only `json` is written.
    json: additional file for the report.
    state: run folder of a finished search; None: a short search is run.
    train: images that replace those of the search; half of them are for validation.
    tfds_dir: folder of the TFDS data sets; None: that of the search.
    module: module whose bilevel problem is studied.
    crop: side of the crops in pixels.
    smoothing: width of the rounded corners of the smoothed losses.
    seed: random seed of the crops, of stochastic estimators, and of the short search.
    quick: measure only the numbers that have a threshold.
    grid: another selection of cases.
  Raises:
    UserError: there is no search, the images are unsuitable, or a path cannot be written. It is raised before the work.
  """
  if not 0 < smoothing < float("inf"):
    raise UserError(f"`smoothing` must be greater than 0 and finite, not {smoothing}")
  grid, folder = grid or (QUICK if quick else Grid()), None if out is None else epath.Path(out).expanduser()
  reports = ([folder / "hypergrad.json"] if folder else []) + ([json] if json else [])
  for path in [*(folder / name for name in OUTPUTS if folder), *reports]:
    check_writable(path)
  found = _find(state, train, tfds_dir, crop=crop, seed=seed, quick=quick)
  frozen = freeze(
    found.config, found.state, found.train, found.validation, module=module, smoothing=smoothing, steps=grid.longest
  )

  laboratory = Laboratory(frozen, seed=seed)
  rows = _measure(laboratory, plan(grid, frozen.rate), grid.rounds)
  costs = measure_costs(laboratory, longest=grid.longest, rounds=_ROUNDS)
  bars = against_bars(rows, costs)
  conformance = [] if quick else _conformance()

  text = io.StringIO()
  tables.print_sweeps(rows, text)
  if conformance:
    tables.print_conformance(conformance, text)
  tables.print_bars(bars, text)
  print(text.getvalue(), end="")
  settings = {
    "state": "a short search" if state is None else epath.Path(state).name,
    "search_steps": int(found.state.step),
    "data": epath.Path(found.config.data.train).name,
    "module": module,
    "crop": crop,
    "batch_size": found.config.data.batch_size,
    "smoothing": smoothing,
    "seed": seed,
    "quick": quick,
    "grid": grid._asdict(),
  }
  results = {"rows": rows, "costs": costs, "finite_difference": summarize_epsilon(rows), "conformance": conformance}
  report = write_report(None, settings=settings, results=results, bars=bars)
  for path in reports:
    write_json(path, report)
  if folder:
    for name in OUTPUTS[1:]:  # an earlier study may have written more files
      (folder / name).unlink(missing_ok=True)
    write_atomically(folder / "hypergrad.csv", tables.as_csv(rows))
    write_atomically(folder / "hypergrad.txt", text.getvalue().encode())
    _draw(folder, rows, found.records, player_of(found.config, module).name)
  return report


def _find(state, train, tfds_dir, *, crop, seed, quick) -> _Found:
  """The search to study, and its configuration with the data, seed and crop of the study."""
  config, frozen = (_short_search(quick=quick), None) if state is None else load_search(state)
  data = dataclasses.replace(config.data, crop=crop, tfds_dir=tfds_dir or config.data.tfds_dir)
  if train is not None:
    data = dataclasses.replace(data, train=train, val=None)
  config = dataclasses.replace(config, data=data, seed=seed)
  if config.search.weight_optimizer.learning_rate == 0:
    raise UserError(
      f"{state}: the weights of this search did not move (search.weight_optimizer.learning_rate is 0); "
      "give another search"
    )
  sources = open_both(config)
  for source in sources:
    as_elements(config, source).check()
  if state is not None and frozen is not None:
    log = epath.Path(state) / METRICS
    return _Found(config, frozen, *sources, read_metrics(log) if log.exists() else [])
  data = dataclasses.replace(data, crop=min(64, crop))
  result = search(dataclasses.replace(config, data=data), train_images=sources[0], val_images=sources[1])
  return _Found(config, result.state, *sources, result.metrics)


def _short_search(*, quick: bool) -> Config:
  tiny = load_config("tiny")
  diagnostics = DiagnosticsOptions() if quick else DiagnosticsOptions(every=3, batches=1)
  return dataclasses.replace(
    tiny, search=dataclasses.replace(tiny.search, steps=20 if quick else 90, diagnostics=diagnostics)
  )


def _measure(laboratory: Laboratory, sweeps: Mapping[str, list[Case]], rounds: int) -> list[Row]:
  rows = []
  with progress(sum(map(len, sweeps.values())), "hypergrad") as bar:
    for cases in sweeps.values():
      measured = []
      for case in cases:
        measured.append(laboratory.measure(case))
        bar.update(len(rows) + len(measured))
      laboratory.add_times(cases, measured, rounds=rounds, seconds=_ENOUGH_SECONDS)
      rows += measured
  return rows


def _conformance() -> list[dict[str, Any]]:
  from ruas_jax.bilevel.testing.conformance import conformance

  return [row._asdict() for row in conformance()]


def _draw(folder: epath.Path, rows: list[Row], records: list[Record], player: str) -> None:
  sweeps = {row["sweep"] for row in rows}
  for name, plot in {
    "epsilon": figures.plot_epsilon,
    "horizon": figures.plot_horizon,
    "rate": figures.plot_rate,
  }.items():
    if name in sweeps:
      plot(folder / f"{name}.png", rows)
  if figures.has_terms(records, player):
    figures.plot_decomposition(folder / "decomposition.png", records, player=player)
  else:
    print("no decomposition.png: the search measured no terms; search again with search.diagnostics.every above 0")
