"""Searching a population of RUAS's searches in one program, and the agreement of its members."""

import dataclasses
import os
from typing import Any, NamedTuple

from etils import epath

from ruas_jax.config import Config
from ruas_jax.data.sources import ImageSource
from ruas_jax.engine.leftovers import member_name
from ruas_jax.engine.metric_log import to_json_value
from ruas_jax.engine.records import losses_of
from ruas_jax.engine.run_options import RunOptions
from ruas_jax.experiments.agreement import Found, summarize_agreement
from ruas_jax.experiments.front import Candidate, search_front
from ruas_jax.experiments.search import SearchResult, result_of, search_files
from ruas_jax.experiments.setting import (
  FRONT,
  POPULATION,
  RESULTS,
  arithmetic,
  engine_arguments,
  open_images,
  search_identity,
  search_setting,
  written,
)
from ruas_jax.files import write_json
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.operations import CANDIDATES, operation_names
from ruas_jax.nas import population as engine
from ruas_jax.sweep import Member, PopulationOptions, list_members, swept_values


class PopulationResult(NamedTuple):
  """Attributes:
  members: the searches, in order.
  results: result of each search; None where it failed.
  failures: error of each search; None where it succeeded.
  summary: content of `population.json`.
  front: content of `front.json`; None without `search.cost`.
  """

  members: list[Member]
  results: list[SearchResult | None]
  failures: list[str | None]
  summary: dict[str, Any]
  front: dict[str, Any] | None


def search_population(
  config: Config,
  population: PopulationOptions,
  *,
  workdir: str | os.PathLike | None = None,
  run: RunOptions = RunOptions(),
  train_images: ImageSource | None = None,
  val_images: ImageSource | None = None,
) -> PopulationResult:
  """Searches all members at once. Each gets the result of `search` with its configuration, up to rounding.

  A member whose loss is not finite stops, and so does one that `search.stop` ends; the others continue.

  Args:
    config: the configuration that all members share.
    population: the seeds and the sweep.
    workdir: folder for `population.json`, `population.png`, `config.json`, the common `snapshots`, and the run folder
      of each member, `member_000` and so on; with `search.cost` also for `front.json` and `front.png`. None: nothing is
      written.
    run: as in `search`.
    train_images, val_images: sources that replace those of `config.data`.
  Raises:
    UserError: the options, the data, the mesh or the folder do not fit together, or every member failed.
    Preempted: SIGTERM stopped the population, which is saved in `workdir`.
  """
  members, sweep = list_members(config, population), swept_values(population)
  of_member = {(member.config.seed, tuple(member.values.values())): member.config for member in members}
  setting = search_setting(config, swept={path: values[0] for path, values in sweep.items()})
  train, validation = open_images(config, train_images, val_images)
  names, images = operation_names(CANDIDATES), {"train": train, "val": validation}
  summaries: list[dict[str, Any]] = []
  fronts: list[dict[str, Any]] = []

  def write(folder: epath.Path | None, found: engine.PopulationResult) -> None:
    summaries.append(_summarize(population, members, found))
    if folder:
      write_json(folder / POPULATION, summaries[0])
      if any(found.results):
        from ruas_jax.plots import plot_population

        plot_population(folder / "population.png", summaries[0])
    if config.search.cost and any(found.results):
      fronts.append(search_front(config, _candidates(members, found), train, validation))
      if folder:
        from ruas_jax.plots import plot_front

        write_json(folder / FRONT, fronts[0])
        plot_front(folder / "front.png", fronts[0])

  found = engine.search_population(
    **engine_arguments(config, setting, train, validation),
    seeds=range(config.seed, config.seed + population.seeds),
    sweep=sweep,
    workdir=workdir,
    run=run,
    files=engine.PopulationFiles(
      config=written(config),
      identity=search_identity("population", config, images=images, population=dataclasses.asdict(population)),
      arithmetic=arithmetic(),
      member=lambda member: search_files(of_member[member.seed, tuple(member.values.values())], names),
      outputs=RESULTS,
      write=write,
    ),
  )
  results = [result and result_of(result) for result in found.results]
  return PopulationResult(members, results, found.failures, summaries[0], fronts[0] if fronts else None)


def _candidates(members: list[Member], result: engine.PopulationResult) -> list[Candidate]:
  return [
    Candidate(member_name(position), member, Genotype.from_dict(found.derived), found.state)
    for position, (member, found) in enumerate(zip(members, result.results, strict=True))
    if found
  ]


def _summarize(population: PopulationOptions, members: list[Member], result: engine.PopulationResult) -> dict[str, Any]:
  rows, found = [], []
  for position, (member, records) in enumerate(zip(members, result.metrics, strict=True)):
    name, seed, result_of_member = member_name(position), member.config.seed, result.results[position]
    genotype = Genotype.from_dict(result_of_member.derived) if result_of_member else None
    last = records[-1] if records else {}  # a host that does not write has no records from before a restart
    rows.append(
      {
        "name": name,
        "seed": seed,
        "values": member.values,
        "steps": last.get("step"),
        "losses": losses_of(last),
        "genotype": str(genotype) if genotype else None,
        "failure": result.failures[position],
      }
    )
    if genotype:
      found.append(Found(name, seed, member.values, genotype))
  return to_json_value({"options": dataclasses.asdict(population), "members": rows, **summarize_agreement(found)})
