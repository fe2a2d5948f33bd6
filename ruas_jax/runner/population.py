"""Searching a population: many searches as one program, each with the results of a search alone."""

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
from ruas_jax.runner.agreement import Found, summarize_agreement
from ruas_jax.runner.convergence import ConvergenceWatch
from ruas_jax.runner.device_loop import DeviceLoop
from ruas_jax.runner.loop import Outcome, iterate
from ruas_jax.runner.options import RunOptions
from ruas_jax.runner.records import Record, losses_of
from ruas_jax.runner.search import SearchResult, check_budget, finish_search
from ruas_jax.runner.setting import describe, open_places, readings_of, seeded, split_sources
from ruas_jax.runner.workdir import POPULATION, identify, open_workdir
from ruas_jax.runtime.mesh import Layout
from ruas_jax.runtime.metric_log import to_json_value
from ruas_jax.runtime.progress import progress
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
  run: RunOptions = RunOptions(),
  train_images: ImageSource | None = None,
  val_images: ImageSource | None = None,
) -> PopulationResult:
  """Searches all members at once; each is what `search` with its configuration finds, but for rounding.

  A member whose loss is not finite stays where it is, and the others go on.

  Args:
    config: what all members share.
    population: the seeds and the sweep.
    workdir: gets `population.json`, `population.png`, `config.json` and for each member the work directory of a search,
      `member_000` and so on; `snapshots` are those of all. None: nothing is written.
    run: as in `search`.
    train_images, val_images: sources in place of those that `config.data` names.
  Raises:
    UserError: the options, the data, the mesh or the workdir do not serve, or every member failed.
    Preempted: SIGTERM came, and the population is saved in `workdir`.
  """
  if config.search.diagnostics.every:
    raise UserError("search.diagnostics is not available in a population")
  check_budget(config)
  members = list_members(config, population)
  _check_sweep(config, list(members[0].values))
  layout = Layout(run.mesh, batch_size=config.data.batch_size, members=len(members))
  train, validation = open_places(config, train_images, val_images)
  feed = open_population_feed(
    [readings_of(member.config, *split_sources(member.config, train, validation)) for member in members],
    crop=config.data.crop,
    placement=config.data.placement,
  )
  identity = identify(
    "population",
    config,
    *("training", "search.steps"),
    images={"train": train} | ({"val": validation} if validation is not None else {}),
    population=dataclasses.asdict(population),
  )
  names = [member_name(position) for position in range(len(members))]
  own_configs = [(name, member.config) for name, member in zip(names, members, strict=True)]
  opened = open_workdir(workdir, config, identity, run, steps=config.search.steps, members=own_configs)
  with opened as place:
    folders = [place.folder and place.folder / name for name in names]
    loop = _begin(config, members, feed, layout, largest_loss=run.largest_loss)
    description, watch = f"search of {len(members)}", ConvergenceWatch(config.search.hypergradient, names)
    outcome = iterate(
      loop, steps=config.search.steps, description=description, workdir=place, members=folders, watch=watch
    )
    return _finish(place.folder, folders, config, population, members, outcome)


def _begin(
  config: Config, members: list[Member], feed: PopulationFeed, layout: Layout, *, largest_loss: float
) -> DeviceLoop:
  """The loop at its beginning."""
  seeds = np.array([member.config.seed for member in members], np.int32)
  dtype = jax.tree.leaves(jax.eval_shape(seeded(describe(config).init), 0)[0].weights)[0].dtype
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

  state, _, step_keys = jax.jit(jax.vmap(seeded(init)))(seeds, values)
  key = (step_keys, values)
  return DeviceLoop(step, state, feed, key, layout=layout, members=len(members), largest_loss=largest_loss)


def _finish(
  folder: epath.Path | None,
  folders: list[epath.Path | None],
  config: Config,
  population: PopulationOptions,
  members: list[Member],
  outcome: Outcome,
) -> PopulationResult:
  """Writes what the members found, each into its folder, and the summary of all."""
  results: list[SearchResult | None] = []
  metrics, failures = outcome.records, outcome.failures
  with progress(len(members), "write") as bar:
    for position, member in enumerate(members):
      result = None
      if not failures[position]:
        try:
          own = _own_state(outcome.state, member.config, position)
          result = finish_search(folders[position], own, metrics[position], config)
        except UserError as error:  # alpha alone is not finite, or the place is full
          failures[position] = str(error)
      results.append(result)
      bar.update(position + 1)
  summary = _summarize(population, members, metrics, results, failures)
  if folder:
    write_json(folder / POPULATION, summary)
    if any(results):
      from ruas_jax.plots import plot_population  # matplotlib, for a work directory alone

      plot_population(folder / "population.png", summary)
  if not any(results):
    lines = [f"{member_name(position)}: {failure}" for position, failure in enumerate(failures)]
    raise UserError("\n".join(["search: every member failed", *lines]))
  return PopulationResult(members, results, failures, summary)


def _own_state(state: SearchState, config: Config, position: int) -> SearchState:
  """A member's state, in the form of a search alone: there an optimiser without weight decay has no place for it."""
  form = jax.tree.structure(jax.eval_shape(seeded(describe(config).init), 0)[0])
  return jax.device_put(jax.tree.unflatten(form, [leaf[position] for leaf in jax.tree.leaves(state)]))


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
    last = own[-1] if own else {}  # a host that does not write has no records of before a restart
    rows.append(
      {
        "name": name,
        "seed": seed,
        "values": member.values,
        "steps": last.get("step"),
        "losses": losses_of(last),
        "genotype": str(result.genotype) if result else None,
        "failure": failures[position],
      }
    )
    if result:
      found.append(Found(name, seed, member.values, result.genotype))
  return to_json_value({"options": dataclasses.asdict(population), "members": rows, **summarize_agreement(found)})
