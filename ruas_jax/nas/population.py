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

from ruas_jax.bilevel.losses import wrap
from ruas_jax.engine.device_loop import DeviceLoop
from ruas_jax.engine.feed import open_population_feed
from ruas_jax.engine.identity import plain
from ruas_jax.engine.leftovers import member_name
from ruas_jax.engine.loop import Outcome, iterate
from ruas_jax.engine.mesh import Layout
from ruas_jax.engine.progress import progress
from ruas_jax.engine.records import Record
from ruas_jax.engine.run_folder import open_run_folder
from ruas_jax.engine.run_options import Placement, RunOptions
from ruas_jax.engine.seeding import seeded
from ruas_jax.engine.sources import as_source, spec_of
from ruas_jax.errors import UserError
from ruas_jax.nas.convergence import ConvergenceWatch
from ruas_jax.nas.data import check_data, open_data, readings_of
from ruas_jax.nas.files import RunFiles, finish
from ruas_jax.nas.options import SWEPT, SearchOptions, is_swept
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

  A member whose loss is not finite stops; the others continue.

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
  if options.measure_every:
    option = "search.diagnostics.every" if options.diagnostics.every else "search.stop"
    raise UserError(f"`{option}` does not work in a population, which has no diagnostics; search one member at a time")
  sweep = dict(sweep or {})
  seeds = list(range(seeds) if isinstance(seeds, int) else seeds)
  members = list_members(seeds, sweep)
  if not members:
    raise UserError("a population needs at least one seed and one value of every swept number")
  problem = _with_swept_options(problem, sweep)
  setting = make_setting(problem, options, weight_optimizer, alpha_optimizer)
  _check_values(options, sweep)
  train = as_source("train", train)
  _check_sweep(setting, train, list(sweep))
  layout = Layout(run.mesh, batch_size=batch_size, members=len(members))
  readings, data = [], []
  for member in members:
    sides = open_data(train, validation, seed=member.seed)
    check_data(problem, *sides, batch_size=batch_size, repeat=repeat)
    data.append(sides)
    readings.append(readings_of(problem, options, *sides, batch_size=batch_size, seed=member.seed))
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
    loop = _begin(setting, members, feed, layout, largest_loss=run.largest_loss)
    description, watch = f"search of {len(members)}", ConvergenceWatch(options.parts.hypergradient, names)
    outcome = iterate(
      loop, steps=options.steps, description=description, run_folder=folder, members=folders, watch=watch
    )

    def selecting(position: int, state: SearchState) -> Any:
      member, (of_train, of_validation) = members[position], data[position]
      own = dataclasses.replace(problem, hyper=_with_values(problem.hyper, member.values))
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

    result = _finish(problem, folders, member_files, members, outcome, selecting)
    files.write(folder.path, result)
  if not any(result.results):
    lines = [f"{name}: {failure}" for name, failure in zip(names, result.failures, strict=True)]
    raise UserError("\n".join(["search: every member failed", *lines]))
  return result


def _begin(setting: Setting, members: list[Member], feed, layout: Layout, *, largest_loss: float) -> DeviceLoop:
  """The loop before its first step."""
  take = setting.step()

  def init(key, values):
    return setting.init(key, _with_values(setting.problem.hyper, values))

  def step(state, train, validation, of_member):
    key, values = of_member
    return take(state, train, validation, key, _with_values(setting.problem.hyper, values))

  dtype = jnp.result_type(float)
  values = {path: np.array([member.values[path] for member in members], dtype) for path in members[0].values}
  seeds = np.array([member.seed for member in members], np.int32)
  state, _, step_keys = jax.jit(jax.vmap(seeded(init)))(seeds, values)
  key = (step_keys, values)
  return DeviceLoop(step, state, feed, key, layout=layout, members=len(members), largest_loss=largest_loss)


def _finish(
  problem: SearchProblem,
  folders: list[epath.Path | None],
  files: list[RunFiles],
  members: list[Member],
  outcome: Outcome,
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
          selecting = functools.partial(select, position, state)
          records, folder = outcome.records[position], folders[position]
          result = finish(problem, state, records, folder, files[position], selecting)
        except UserError as error:  # alpha is not finite though the losses are, or the disk is full
          failures[position] = str(error)
      results.append(result)
      bar.update(position + 1)
  return PopulationResult(members, results, failures, outcome.records)


def _paths(hyper: Any) -> list[str]:
  return [_path(path) for path, _ in jax.tree.leaves_with_path(hyper)]


def _path(path) -> str:
  return jax.tree_util.keystr(path, simple=True, separator=".")


def _with_values(hyper: Any, values: Mapping[str, Any]) -> Any:
  """The problem's `hyper` with the numbers at these paths replaced."""
  return jax.tree.map_with_path(lambda path, leaf: values.get(_path(path), leaf), hyper)


def _with_swept_options(problem: SearchProblem, sweep: Mapping[str, Sequence[float]]) -> SearchProblem:
  """The problem whose `hyper` has the options of the search that are swept."""
  options = {path: values[0] for path, values in sweep.items() if values and is_swept(path)}
  if not options or not isinstance(problem.hyper, Mapping):
    return problem
  return dataclasses.replace(problem, hyper=dict(problem.hyper) | options)


def _check_values(options: SearchOptions, sweep: Mapping[str, Sequence[float]]) -> None:
  """Raises UserError for a swept option of the search that is outside its range."""
  for path, values in sweep.items():
    for value in values if path in SWEPT else ():
      dataclasses.replace(options, **{path.removeprefix("search."): value})  # which checks it


def _check_sweep(setting: Setting, train: Any, paths: list[str]) -> None:
  """Raises UserError for a path that does not exist, or whose number cannot be traced because Python code branches on
  it."""
  problem, known = setting.problem, _paths(setting.problem.hyper)
  raw = jax.tree.map(lambda leaf: jnp.zeros((1, *leaf.shape), leaf.dtype), spec_of(train))

  def trace(values):
    hyper = _with_values(problem.hyper, values)
    state = setting.init(jax.random.key(0), hyper)
    batch, (of_weights, of_alpha) = problem.sample(raw, jax.random.key(0)), setting.optimizers.at(hyper)
    out = []
    for player in problem.players:
      weights, alpha = player.pick(state.weights), player.pick(state.alpha)
      bilevel = wrap(player.bilevel_problem(state.weights, state.alpha, hyper))
      keyed = (batch, jax.random.key(0)) if bilevel.inner_loss.keyed else batch
      out += [loss(weights, alpha, keyed) for loss in bilevel]
      out.append(of_weights.update(weights, state.weight_state[player.name], weights))
      out.append(of_alpha.update(alpha, state.alpha_state[player.name], alpha))
    return out

  for path in paths:
    if path not in known:
      listed = ", ".join(known) or "none"
      raise UserError(f"`sweep` {path}: the problem's hyper has no such number; it has {listed}")
    try:
      jax.eval_shape(trace, {path: jax.ShapeDtypeStruct((), jnp.float32)})
    except TypeError:  # jax raises it where Python code needs the value of a traced number
      raise UserError(
        f"`sweep` {path}: cannot be swept, because Python code depends on its value; run one search for each value"
      ) from None
