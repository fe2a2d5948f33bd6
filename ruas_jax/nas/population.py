"""Searching a population: many searches in one program, each with the results of a single search."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from jax import lax

from ruas_jax.engine.device_loop import DeviceLoop
from ruas_jax.engine.feed import PopulationFeed, open_population_feed
from ruas_jax.engine.identity import plain
from ruas_jax.engine.leftovers import member_name
from ruas_jax.engine.loop import Outcome, iterate
from ruas_jax.engine.mesh import Layout, map_members
from ruas_jax.engine.progress import progress
from ruas_jax.engine.records import Record
from ruas_jax.engine.run_folder import open_run_folder
from ruas_jax.engine.run_options import Placement, RunOptions
from ruas_jax.engine.seeding import seeded
from ruas_jax.engine.sources import as_source
from ruas_jax.errors import UserError
from ruas_jax.nas.convergence import ConvergenceWatch
from ruas_jax.nas.data import check_data, held_out_reading, open_data, readings_of
from ruas_jax.nas.diagnostics import make_diagnostics
from ruas_jax.nas.files import RunFiles, finish
from ruas_jax.nas.hyper import check_sweep, check_values, with_swept_options, with_values
from ruas_jax.nas.observer import DiagnosticsObserver
from ruas_jax.nas.options import SearchOptions
from ruas_jax.nas.problem import SearchProblem
from ruas_jax.nas.result import SearchResult
from ruas_jax.nas.selection import select
from ruas_jax.nas.setting import Setting, make_setting
from ruas_jax.nas.state import MakeOptimizer, SearchState
from ruas_jax.nas.training import Trainer


class Member(NamedTuple):
  """One search of a population.

  Attributes:
    seed: random seed.
    values: values of the swept numbers, by path.
  """

  seed: int
  values: dict[str, float]


class PopulationResult(NamedTuple):
  """Attributes:
  members: the searches, in order.
  results: result of each search; None where it failed.
  failures: error of each search; None where it succeeded.
  metrics: records of each search.
  """

  members: list[Member]
  results: list[SearchResult | None]
  failures: list[str | None]
  metrics: list[list[Record]]


@dataclasses.dataclass(frozen=True)
class PopulationFiles:
  """The files that an application adds to the folder of a population and to the folders of its members.

  Attributes:
    config: content of `config.json`; None: the search's options.
    identity, arithmetic: as in `RunFiles`.
    member: `Member -> RunFiles` for the member's folder (`member_000` and so on).
    outputs: names of the files that `write` makes.
    write: called in the end with the folder (None where this process writes nothing) and all results.
  """

  config: dict[str, Any] | None = None
  identity: dict[str, Any] | None = None
  arithmetic: str | None = None
  member: Callable[[Member], RunFiles] = lambda member: RunFiles()
  outputs: Sequence[str] = ()
  write: Callable[[epath.Path | None, PopulationResult], None] = lambda folder, result: None


def list_members(seeds: Sequence[int], sweep: Mapping[str, Sequence[float]]) -> list[Member]:
  """Every combination of the swept values with all seeds. The last path changes fastest."""
  settings = itertools.product(*([(path, value) for value in values] for path, values in sweep.items()))
  return [Member(seed, dict(setting)) for setting in settings for seed in seeds]


def search_population(
  problem: SearchProblem,
  *,
  train: Any,
  validation: Any | None = None,
  seeds: int | Sequence[int] = 1,
  sweep: Mapping[str, Sequence[float]] | None = None,
  options: SearchOptions = SearchOptions(),
  batch_size: int = 1,
  workdir: str | os.PathLike | None = None,
  run: RunOptions = RunOptions(),
  weight_optimizer: optax.GradientTransformation | MakeOptimizer | None = None,
  alpha_optimizer: optax.GradientTransformation | MakeOptimizer | None = None,
  placement: Placement = "auto",
  repeat: bool = False,
  files: PopulationFiles = PopulationFiles(),
) -> PopulationResult:
  """Searches all members at once. Each gets the result of `search` with its seed and numbers, up to rounding.

  A member whose loss is not finite stops, and so does one that `options.stop` ends; the others continue.

  Args:
    seeds: number of seeds, counted from 0, or a list of seeds.
    sweep: maps the path of a number in `problem.hyper`, such as `"penalty"` or `"loss.weight"`, to its values. If
      `hyper` is a dictionary, `"search.regularisers.NAME"`, `"search.temperature"`, `"search.perturbation_size"`,
      `"search.cost_weight"` and `"search.cost_target"` are allowed too.
    workdir: folder for `config.json`, `snapshots`, and the run folder of each member, `member_000` and so on.
    others: as in `search`. The data must fit into device memory.

  Raises:
    UserError: as in `search`; or a number cannot be swept; or every member failed.
    Preempted: SIGTERM stopped the population, which is saved in `workdir`.
  """
  sweep = dict(sweep or {})
  seeds = list(range(seeds) if isinstance(seeds, int) else seeds)
  members = list_members(seeds, sweep)
  if not members:
    raise UserError("a population needs at least one seed and one value of every swept number")
  problem = with_swept_options(problem, sweep)
  setting = make_setting(problem, options, weight_optimizer, alpha_optimizer)
  check_values(options, sweep)
  train = as_source("train", train)
  check_sweep(setting, train, list(sweep))
  layout = Layout(run.mesh, batch_size=batch_size, members=len(members))
  readings, held_out, data = [], [], []
  for member in members:
    sides = open_data(train, validation, seed=member.seed)
    check_data(problem, *sides, batch_size=batch_size, repeat=repeat)
    data.append(sides)
    readings.append(readings_of(problem, options, *sides, batch_size=batch_size, seed=member.seed))
    held_out.append([held_out_reading(options, sides[1], batch_size=batch_size, seed=member.seed)])
  feed = open_population_feed(readings, placement=placement)
  of_run = {"batch_size": batch_size, "seed": seeds[0]}
  given = None if validation is None else as_source("validation", validation)
  identity = files.identity or setting.identity("population", train, given, **of_run, seeds=seeds, sweep=plain(sweep))
  names = [member_name(position) for position in range(len(members))]
  member_files = [files.member(member) for member in members]
  configs = [run_files.config or setting.config(**of_run | {"seed": member.seed}) | {"values": member.values}
             for run_files, member in zip(member_files, members, strict=True)]  # fmt: skip
  opened = open_run_folder(
    *(workdir, identity, run),
    steps=options.steps,
    config=files.config or setting.config(**of_run),
    outputs=(*files.outputs, *member_files[0].names),
    members=list(zip(names, configs, strict=True)),
    arithmetic=files.arithmetic,
  )
  with opened as folder:
    folders = [folder.path and folder.path / name for name in names]
    start = _start(setting, members)
    loop = _loop(setting, start, feed, layout, largest_loss=run.largest_loss)
    observer = _observer(setting, start, feed.beside(held_out), layout) if options.measure_every else None
    description, watch = f"search of {len(members)}", ConvergenceWatch(options.parts.hypergradient, names)
    outcome = iterate(
      loop,
      steps=options.steps,
      description=description,
      run_folder=folder,
      members=folders,
      observer=observer,
      watch=watch,
    )

    def selecting(position: int, state: SearchState) -> Any:
      member, (of_train, of_validation) = members[position], data[position]
      own = dataclasses.replace(problem, hyper=with_values(problem.hyper, member.values))
      make_trainer = lambda: Trainer(
        own,
        train=of_train,
        validation=of_validation,
        batch_size=batch_size,
        seed=member.seed,
        weight_optimizer=setting.optimizers.weights,
        repeat=repeat,
      )
      return select(own, options, state, make_trainer, member.seed)

    result = _finish(problem, folders, member_files, members, outcome, observer, selecting)
    files.write(folder.path, result)
  if not any(result.results):
    lines = [f"{name}: {failure}" for name, failure in zip(names, result.failures, strict=True)]
    raise UserError("\n".join(["search: every member failed", *lines]))
  return result


class _Start(NamedTuple):
  """The first state of all members, the keys that made it and those of the steps, and the swept values. Every leaf has
  a leading axis of members."""

  state: SearchState
  init_keys: jax.Array
  step_keys: jax.Array
  values: dict[str, np.ndarray]


def _start(setting: Setting, members: list[Member]) -> _Start:
  def init(key, values):
    return setting.init(key, with_values(setting.problem.hyper, values))

  dtype = jnp.result_type(float)
  values = {path: np.array([member.values[path] for member in members], dtype) for path in members[0].values}
  seeds = np.array([member.seed for member in members], np.int32)
  state, init_keys, step_keys = jax.jit(jax.vmap(seeded(init)))(seeds, values)
  return _Start(state, init_keys, step_keys, values)


def _loop(setting: Setting, start: _Start, feed: PopulationFeed, layout: Layout, *, largest_loss: float) -> DeviceLoop:
  """The loop before its first step."""
  take = setting.step()

  def step(state, train, validation, of_member):
    key, values = of_member
    return take(state, train, validation, key, with_values(setting.problem.hyper, values))

  of_members = (start.step_keys, start.values)
  members = len(start.step_keys)
  return DeviceLoop(step, start.state, feed, of_members, layout=layout, members=members, largest_loss=largest_loss)


def _observer(setting: Setting, start: _Start, held_out: PopulationFeed, layout: Layout) -> DiagnosticsObserver:
  """The observer that measures all members in one program."""
  # Jitted, so that it is traced only once, for its shapes and for the program.
  measure = jax.jit(make_diagnostics(setting.problem, setting.options, setting.optimizers))

  def diagnose(state, train, validation, of_member, goes):
    key, values = of_member
    arguments = (state, train, validation, key, with_values(setting.problem.hyper, values))
    nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), jax.eval_shape(measure, *arguments))
    return (lax.cond(goes, measure, lambda *_: nothing, *arguments),)

  axes = (0, 0, 0, 0, 0)
  of_all = layout.over_members(map_members(diagnose, in_axes=axes), takes=axes, gives=(0,))
  program = jax.jit(lambda *arguments: layout.readable(of_all(*arguments)[0]))
  put = functools.partial(layout.put, sharding=layout.per_member)
  keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(start.init_keys, 1)
  of_members = (keys, start.values)
  return DiagnosticsObserver(
    setting.options, lambda *arguments: program(*map(put, arguments)), held_out, of_members, members=len(keys)
  )


def _finish(
  problem: SearchProblem,
  folders: list[epath.Path | None],
  files: list[RunFiles],
  members: list[Member],
  outcome: Outcome,
  observer: DiagnosticsObserver | None,
  select: Callable[[int, SearchState], Any],
) -> PopulationResult:
  """Writes the result of each member into its folder. `select` gives what the member's `derive` receives."""
  results: list[SearchResult | None] = []
  failures = list(outcome.failures)
  with progress(len(members), "write") as bar:
    for position in range(len(members)):
      result = None
      if not failures[position]:
        try:
          state = jax.device_put(jax.tree.map(lambda leaf, at=position: leaf[at], outcome.state))
          if observer:
            state = state._replace(alpha=observer.chosen_alpha(state.alpha, position))
          selecting = functools.partial(select, position, state)
          records, folder = outcome.records[position], folders[position]
          result = finish(problem, state, records, folder, files[position], selecting)
        except UserError as error:  # alpha is not finite though the losses are, or the disk is full
          failures[position] = str(error)
      results.append(result)
      bar.update(position + 1)
  return PopulationResult(members, results, failures, outcome.records)
