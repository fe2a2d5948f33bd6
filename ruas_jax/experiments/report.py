"""The report of a run: reads the run folder, and writes one HTML page with all that is in it."""

import dataclasses
import datetime
import io
import json
import os
import zipfile
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from ruas_jax import __version__
from ruas_jax.config import Config, read_config
from ruas_jax.engine.leftovers import CONFIG, METRICS, SNAPSHOTS
from ruas_jax.engine.metric_log import read_metrics
from ruas_jax.engine.records import Record
from ruas_jax.engine.report import checked_out_commit
from ruas_jax.engine.snapshots import Snapshots
from ruas_jax.errors import UserError
from ruas_jax.experiments.before_after import before_after
from ruas_jax.experiments.setting import ALPHA, FRONT, GENOTYPE, POPULATION
from ruas_jax.files import check_writable, write_atomically
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.operations import CANDIDATES, operation_names
from ruas_jax.lowlight.space import size_values
from ruas_jax.photos.model import has_checkpoint, load
from ruas_jax.report.architecture import alpha_history, alpha_part, genotype_part
from ruas_jax.report.markup import Content, facts
from ruas_jax.report.options import options_part
from ruas_jax.report.page import Section, charts, page
from ruas_jax.report.photographs import photographs_part, picture_part
from ruas_jax.report.population import agreement_part, front_part, members_part
from ruas_jax.report.progress import diagnostic_charts, duration, loss_charts, member_charts, term_charts
from ruas_jax.report.study import conformance_part, rows_part, sweep_charts, thresholds_part

_STUDY, _TERMS = "hypergrad.json", "decomposition.png"
_MOST_CURVES = 16  # members of a population whose losses are drawn


class Reported(NamedTuple):
  """Attributes:
  size: size of the page in bytes.
  sections: titles of its sections.
  left_out: why something that a run of this kind can have is not in the page, a line each.
  """

  size: int
  sections: list[str]
  left_out: list[str]


def report(
  run: str | os.PathLike, out: str | os.PathLike, *, photographs: int = 3, overwrite: bool = False
) -> Reported:
  """Writes the report of a run, completely or not at all.

  Args:
    run: folder of a search, a training, a population, a member of one, or a study of hypergradients.
    out: the HTML file.
    photographs: number of training images that are shown before and after.
    overwrite: replace an existing file.
  Raises:
    UserError: there is no run in the folder, one of its files is damaged, or `out` exists or cannot be written.
  """
  folder = epath.Path(run).expanduser()
  if epath.Path(out).is_file() and not overwrite:
    raise UserError(f"{os.fspath(out)} exists already; set `overwrite` to replace it")
  if not folder.is_dir():
    raise UserError(f"{os.fspath(run)}: {'not a folder' if folder.exists() else 'no such folder'}")
  check_writable(out)
  left_out: list[str] = []
  if (folder / _STUDY).is_file():
    kind, about, sections = _study(folder)
  elif (folder / CONFIG).is_file():
    kind, about, sections = _run(_read_run(folder), photographs, left_out)
  else:
    raise UserError(f"{os.fspath(run)}: holds no run of ruas search or ruas train, and no study of ruas hypergrad")
  sections = [section for section in sections if section.content]
  made = (
    f"Made by ruas report of ruas_jax {__version__} on {datetime.date.today()}, commit {checked_out_commit()[:12]}."
  )
  text = page(folder.absolute().name, kind, about, sections, made=made).encode()
  write_atomically(out, text)
  return Reported(len(text), [section.title for section in sections], left_out)


class _Run(NamedTuple):
  """What a run folder holds; a file that does not exist is None or empty. `snapshot` describes the newest snapshot."""

  folder: epath.Path
  config: dict[str, Any]
  snapshot: dict[str, Any]
  records: list[Record]
  genotype: Genotype | None
  population: dict[str, Any] | None
  front: dict[str, Any] | None

  @property
  def kind(self) -> str:
    known = self.snapshot.get("identity", {}).get("kind")
    return known or ("population" if self.population else "train" if has_checkpoint(self.folder) else "search")


def _read_run(folder: epath.Path) -> _Run:
  there = lambda name: (folder / name).exists()
  genotype = Genotype.load(folder / GENOTYPE) if there(GENOTYPE) else None
  if has_checkpoint(folder):
    genotype = load(folder).genotype
  return _Run(
    folder,
    _read_object(folder / CONFIG),
    _newest_snapshot(folder),
    read_metrics(folder / METRICS) if there(METRICS) else [],
    genotype,
    _read_object(folder / POPULATION) if there(POPULATION) else None,
    _read_object(folder / FRONT) if there(FRONT) else None,
  )


_TITLES = {"search": "Search", "train": "Training", "population": "Population of searches"}


def _run(run: _Run, photographs: int, left_out: list[str]) -> tuple[str, list[tuple[str, Content]], list[Section]]:
  config, kind = run.config, run.kind
  options = config.get("training" if kind == "train" else "search", {})
  done = max([record.get("step", 0) for record in run.records], default=0)
  seconds = duration(run.records)
  peak = max([record.get("peak_bytes") or 0 for record in run.records], default=0)
  about: list[tuple[str, Content]] = [
    ("steps", f"{done:,} of {options.get('steps', done):,}" if run.records else None),
    ("method", options.get("method")),
    ("hypergradient", config.get("parts", {}).get("hypergradient")),
    ("seed", config.get("seed")),
    ("training images", config.get("data", {}).get("train")),
    ("time", _minutes(seconds) if seconds else None),
    ("peak memory", f"{peak / 1e6:,.0f} MB" if peak else None),
  ]
  sections = [
    *_population(run),
    Section("Genotype", genotype_part(run.genotype) if run.genotype else None),
    Section("Alpha over time", _alpha(run) if kind == "search" else None),
    Section("Losses", charts(loss_charts(run.records))),
    Section("Before and after", _photographs(run, photographs, left_out)),
    Section("Hypergradient", charts(term_charts(run.records))),
    Section("Diagnostics", charts(diagnostic_charts(run.records))),
    Section("Configuration", options_part(config, dataclasses.asdict(Config()) if "network" in config else {})),
    Section("Versions", _versions(run.snapshot)),
  ]
  return _TITLES.get(kind, kind), about, sections


def _population(run: _Run) -> list[Section]:
  summary = run.population
  if summary is None:
    return []
  names = [member["name"] for member in summary["members"]][:_MOST_CURVES]
  logs = {name: run.folder / name / METRICS for name in names}
  logs = {name: read_metrics(log) for name, log in logs.items() if log.exists()}
  return [
    Section("Agreement", agreement_part(summary) if summary["genotypes"] else None),
    Section("Front", front_part(run.front) if run.front else None),
    Section("Members", members_part(summary)),
    Section("Validation losses of the members", charts(member_charts(logs))),
  ]


def _alpha(run: _Run) -> Content:
  """Alpha by the log and, for the last step, by the result."""
  last, operations = None, operation_names(CANDIDATES)
  if (run.folder / ALPHA).exists():
    try:
      with np.load(io.BytesIO((run.folder / ALPHA).read_bytes())) as arrays:
        last = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
      raise UserError(f"{run.folder / ALPHA}: cannot be read ({error})") from None
    operations = tuple(str(name) for name in last.pop("operations", operations))
  history = alpha_history(run.records, operations, last)
  if history is None:
    return None
  sizes = size_values(read_config(run.folder / CONFIG).network) if history.sizes else {}
  return alpha_part(history, run.genotype, sizes)


def _photographs(run: _Run, count: int, left_out: list[str]) -> Content:
  """Training images before and after; None, with the reason in `left_out`, where this is not possible."""
  finished = run.kind != "population" and run.genotype is not None
  if not finished or not count:
    return None
  try:
    pairs, made_by = before_after(run.folder, count)
  except UserError as error:
    left_out.append(f"photographs: {error}")
    return None
  return photographs_part(pairs, made_by=made_by)


def _study(folder: epath.Path) -> tuple[str, list[tuple[str, Content]], list[Section]]:
  study = _read_object(folder / _STUDY)
  settings, results = study["settings"], study["results"]
  names = ("state", "search_steps", "data", "module", "crop", "batch_size", "smoothing", "seed")
  about = [(name.replace("_", " "), settings.get(name)) for name in names]
  grid, terms = settings.get("grid", {}), folder / _TERMS
  sections = [
    Section("Thresholds", thresholds_part(study["bars"]) if study["bars"] else None),
    Section("Sweeps", charts(sweep_charts(results["rows"]))),
    Section("Terms during the search", _picture(terms) if terms.is_file() else None),
    Section("Cases", rows_part(results["rows"]) if results["rows"] else None),
    Section("Conformance", conformance_part(results["conformance"]) if results["conformance"] else None),
    Section("Configuration", options_part({"grid": grid}, {}) if grid else None),
    Section("Versions", _versions(study)),
  ]
  return "Study of hypergradients", about, sections


def _picture(path: epath.Path) -> Content:
  return picture_part(
    path.read_bytes(), alt="The terms of the hypergradient over the steps: their sizes and directions"
  )


def _versions(about: dict[str, Any]) -> Content:
  """What the run was computed with, as far as it says so."""
  commit, dirty, _ = about.get("commit", "").partition("-dirty")
  shown = [("commit", commit[:12] + dirty or None), ("date", about.get("date")), ("device", about.get("device"))]
  shown += about.get("versions", {}).items()
  return facts(shown) if any(value for _, value in shown) else None


def _newest_snapshot(folder: epath.Path) -> dict[str, Any]:
  """The description of the newest healthy snapshot; empty without one."""
  snapshots = Snapshots(folder / SNAPSHOTS, keep=1)
  for step in snapshots.steps():
    try:
      return snapshots.at(step).about
    except UserError:
      continue
  return {}


def _read_object(path: epath.Path) -> dict[str, Any]:
  try:
    values = json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise UserError(f"{path}: cannot be read as JSON ({error})") from None
  if not isinstance(values, dict):
    raise UserError(f"{path}: not a JSON object")
  return values


def _minutes(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
