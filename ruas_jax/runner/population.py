"""Searching a population: many searches as one program, each with the results of a search alone."""

import contextlib
import dataclasses
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from ruas_jax.architecture_search.state import SearchState
from ruas_jax.architecture_search.step import make_search_step
from ruas_jax.config import Config
from ruas_jax.data.feed import PopulationFeed, open_population_feed
from ruas_jax.data.sources import ImageSource
from ruas_jax.errors import UserError
from ruas_jax.files import write_json
from ruas_jax.plots import plot_population
from ruas_jax.runner.agreement import Found, summarize_agreement
from ruas_jax.runner.device_loop import DeviceLoop
from ruas_jax.runner.loop import METRICS, POPULATION, Record, losses_of, make_records, prepare_workdir
from ruas_jax.runner.search import SearchResult, check_budget, finish_search
from ruas_jax.runner.setting import describe, open_places, readings_of, split_sources
from ruas_jax.runtime.metric_log import MetricLog, progress, to_json_value
from ruas_jax.sweep import Member, PopulationOptions, list_members, with_values


class PopulationResult(NamedTuple):
  """Attributes:
  members: the searches, in order.
  results: of each; None where it failed.
  failures: of each; None where it did not fail.
  summary: what `population.json` holds.
  """

  members: list[Member]
  results: list[SearchResult | None]
  failures: list[str | None]
  summary: dict[str, Any]


def member_name(position: int) -> str:
  """The folder of the member at this place."""
  return f"member_{position:03}"


def search_population(
  config: Config,
  population: PopulationOptions,
  *,
  workdir: str | os.PathLike | None = None,
  overwrite: bool = False,
  train_images: ImageSource | None = None,
  val_images: ImageSource | None = None,
) -> PopulationResult:
  """Searches all members at once; each is what `search` with its configuration finds, but for rounding.

  A member whose loss is not finite stays where it is, and the others go on.

  Args:
    config: what all members share.
    population: the seeds and the sweep.
    workdir: gets `population.json`, `population.png`, `config.json` and for each member the work directory of a search,
      `member_000` and so on. None: nothing is written.
    overwrite: replace a run that is already in `workdir`.
    train_images, val_images: sources in place of those that `config.data` names.
  Raises:
    UserError: the options, the data or the workdir do not serve, or every member failed.
  """
  if config.search.diagnostics.every:
    raise UserError("search.diagnostics is not available in a population")
  check_budget(config)
  members = list_members(config, population)
  _check_sweep(config, list(members[0].values))
  train, validation = open_places(config, train_images, val_images)
  feed = open_population_feed(
    [readings_of(member.config, *split_sources(member.config, train, validation)) for member in members],
    crop=config.data.crop,
    placement=config.data.placement,
  )
  folder = prepare_workdir(workdir, config, overwrite=overwrite)
  folders = [
    folder and prepare_workdir(folder / member_name(position), member.config, overwrite=overwrite)
    for position, member in enumerate(members)
  ]
  state, metrics, failures = _search_all(config, members, feed, folders)

  results: list[SearchResult | None] = []
  with progress(len(members), "write") as bar:
    for position, member in enumerate(members):
      result = None
      if not failures[position]:
        try:
          own = _own_state(state, member.config, position)
          result = finish_search(folders[position], own, metrics[position], config)
        except UserError as error:  # alpha alone is not finite, or the place is full
          failures[position] = str(error)
      results.append(result)
      bar.update(position + 1)
  summary = _summarize(population, members, metrics, results, failures)
  if folder:
    write_json(folder / POPULATION, summary)
    if any(results):
      plot_population(folder / "population.png", summary)
  if not any(results):
    lines = [f"{member_name(position)}: {failure}" for position, failure in enumerate(failures)]
    raise UserError("\n".join(["search: every member failed", *lines]))
  return PopulationResult(members, results, failures, summary)


def _search_all(
  config: Config, members: list[Member], feed: PopulationFeed, folders: list[epath.Path | None]
) -> tuple[SearchState, list[list[Record]], list[str | None]]:
  """The last states, with an axis of members, the records of each member, and what failed in it."""
  keys = [jax.random.split(jax.random.key(member.config.seed)) for member in members]
  init_keys, step_keys = (jnp.stack([pair[place] for pair in keys]) for place in (0, 1))
  dtype = jax.tree.leaves(jax.eval_shape(describe(config).init, init_keys[0]).weights)[0].dtype
  values = {path: np.array([member.values[path] for member in members], dtype) for path in members[0].values}

  def init(key, values):
    return describe(with_values(config, values)).init(key)

  def step(state, train, validation, own):
    key, values = own
    mine = with_values(config, values)
    players, weight_optimizer, alpha_optimizer, _ = describe(mine)
    take = make_search_step(
      players,
      mine.search,
      weight_optimizer,
      alpha_optimizer,
      crop=config.data.crop,
      vary_exposure=config.data.vary_exposure,
    )
    return take(state, train, validation, key)

  state = jax.jit(jax.vmap(init))(init_keys, values)
  loop = DeviceLoop(step, state, feed, (step_keys, values), members=len(members))
  metrics: list[list[Record]] = [[] for _ in members]
  failures: list[str | None] = [None] * len(members)
  with contextlib.ExitStack() as stack:
    logs = [stack.enter_context(MetricLog(folder / METRICS)) if folder else None for folder in folders]
    bar = stack.enter_context(progress(config.search.steps, f"search of {len(members)}"))
    for first, log in loop.calls(config.search.steps):
      for position in range(len(members)):
        new, failure = make_records(first, jax.tree.map(lambda rows: rows[:, position], log))
        metrics[position] += new
        failures[position] = failures[position] or failure
        for record in new if logs[position] else ():
          logs[position].write(record)
      going = [own[-1] for own, failure in zip(metrics, failures, strict=True) if not failure]
      bar.update(first + len(log.taken) - 1, **_medians(going))
      if all(failures):
        break
  return jax.device_get(loop.run.state), metrics, failures


def _medians(records: list[Record]) -> dict[str, float]:
  losses = [losses_of(record) for record in records]
  names = dict.fromkeys(name for own in losses for name in own)
  return {name: float(np.median([own[name] for own in losses if name in own])) for name in names}


def _own_state(state: SearchState, config: Config, position: int) -> SearchState:
  """A member's state, in the form of a search alone: there an optimiser without weight decay has no place for it."""
  form = jax.tree.structure(jax.eval_shape(describe(config).init, jax.random.key(0)))
  return jax.tree.unflatten(form, [jnp.asarray(leaf[position]) for leaf in jax.tree.leaves(state)])


def _check_sweep(config: Config, paths: list[str]) -> None:
  """Raises UserError for an option whose value decides which program runs, so that it cannot be an input of one."""

  def losses(values):
    players, weight_optimizer, alpha_optimizer, init = describe(with_values(config, values))
    state = init(jax.random.key(0))
    images = jnp.zeros((1, config.data.crop, config.data.crop, 3))
    out = []
    for player in players:
      weights, alpha = player.pick(state.weights), player.pick(state.alpha)
      out += [loss(weights, alpha, images) for loss in player.problem(state.weights, state.alpha)]
      out.append(weight_optimizer.update(weights, state.weight_state[player.name], weights))
      out.append(alpha_optimizer.update(alpha, state.alpha_state[player.name], alpha))
    return out

  for path in paths:
    try:
      jax.eval_shape(losses, {path: jax.ShapeDtypeStruct((), jnp.float32)})
    except TypeError:  # what jax raises where Python asks for a traced number's value
      raise UserError(
        f"population.sweep.{path}: {path} cannot be swept: its value decides which program runs; search one by one"
      ) from None


def _summarize(
  population: PopulationOptions,
  members: list[Member],
  metrics: list[list[Record]],
  results: list[SearchResult | None],
  failures: list[str | None],
) -> dict[str, Any]:
  rows, found = [], []
  for position, (member, own, result) in enumerate(zip(members, metrics, results, strict=True)):
    name, seed = member_name(position), member.config.seed
    rows.append(
      {
        "name": name,
        "seed": seed,
        "values": member.values,
        "steps": own[-1]["step"],
        "losses": losses_of(own[-1]),
        "genotype": str(result.genotype) if result else None,
        "failure": failures[position],
      }
    )
    if result:
      found.append(Found(name, seed, member.values, result.genotype))
  return to_json_value({"options": dataclasses.asdict(population), "members": rows, **summarize_agreement(found)})
